"""What may be wrong with an entry of the data."""

import enum


class Fault(enum.IntEnum):
    """What is wrong with an entry of the data, or with what the model expects there."""

    NONE = 0
    NOT_FINITE = 1
    NEGATIVE = 2
    EXPECTED_ZERO = 3
    EXPECTED_NEGATIVE = 4
    EXPECTED_NOT_FINITE = 5
    NO_DENSITY = 6
    NOT_POSITIVE = 7

    def sentence(self, entry: str) -> str:
        return _SENTENCES[self].format(entry)


_SENTENCES = {
    Fault.NONE: "",
    Fault.NOT_FINITE: "{} is not finite.",
    Fault.NEGATIVE: "{} is negative, and counts cannot be.",
    Fault.EXPECTED_ZERO: "{} is not 0, but the model expects 0 there.",
    Fault.EXPECTED_NEGATIVE: "The model expects a negative count for {}.",
    Fault.EXPECTED_NOT_FINITE: "The model is NaN or infinite for {}.",
    Fault.NO_DENSITY: "The density is 0 at {}.",
    Fault.NOT_POSITIVE: "{} is not positive.",
}
