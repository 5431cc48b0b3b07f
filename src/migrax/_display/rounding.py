"""Rounding of numbers and their errors for tables."""

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal

# Number of digits of a double.
_MAX_DIGITS = 17


def pdg_round(value: float, *errors: float) -> list[str]:
    """Rounds a value and its errors together, by the rule of the Particle Data Group.

    The smallest error that is not zero leads. Of its three leading digits, 100 to 354 keep two digits, 355 to 949
    keep one, and 950 to 999 are rounded up to 1000 and keep two. Every cell is then rounded at the same decimal, has
    the same power of ten, and loses the trailing zeros that all have in common. Without an error that is finite and
    not zero, the value keeps five digits.

    The cells are those of iminuit's tables with four differences:

    - A number is rounded once. iminuit rounds the leading error to three digits first (it prints the equal errors
        0.8503 and 0.8503 as 0.8 and 0.9).
    - No cell reads "-0" or "-0.0": a sign that is rounded away is meaningless beside the error.
    - A tie goes to the even digit of the decimal number. iminuit scales in binary first, so that the rounding error
        decides (it prints 0.25 ± 1.2 as 0.3, 0.25 ± 0.5 as 0.2).
    - If the cells would need more than the 17 digits of a double, each error is rounded by itself and the value is
        shown in full. iminuit fills them with the digits of a rounding error, or overflows.

    **Arguments:**

    - `value`: any number; infinite values and NaN are shown as such.
    - `errors`: any number of signed errors; the sign is kept.

    **Returns:** `1 + len(errors)` cells.

    **Source:** Review of Particle Physics, Phys. Rev. D 98, 030001 (2018), section 5.3.
    """
    numbers = [float(x) for x in (value, *errors)]
    exact = [Decimal(repr(x)) for x in numbers]
    leading = min((abs(x) for x in exact[1:] if x.is_finite() and x), default=None)
    exponent, place = _power_and_place(exact[0], leading)
    top = max((x.adjusted() for x in exact if x.is_finite() and x), default=0)
    if top - place >= _MAX_DIGITS:
        return [repr(numbers[0] + 0.0), *(pdg_round(x, x)[1] for x in numbers[1:])]

    context = Context(prec=_MAX_DIGITS + 5, rounding=ROUND_HALF_EVEN)
    unit = Decimal(1).scaleb(place, context)
    rounded = [x.quantize(unit, context=context) if x.is_finite() else None for x in exact]
    shifted = [None if x is None else x.scaleb(-exponent, context) for x in rounded]
    cells = _strip([None if x is None else f"{x:zf}" for x in shifted], max(exponent - place, 0))
    power = f"e{exponent}" if exponent else ""
    texts = [str(x) if cell is None else cell + power for x, cell in zip(numbers, cells, strict=True)]
    if power and rounded[0] == 0 and "." in texts[0]:
        texts[0] = "0"  # a value that vanishes beside its error, as in iminuit's tables
    return texts


def _power_and_place(value: Decimal, leading: Decimal | None) -> tuple[int, int]:
    """Returns the common power of ten, and the power of ten of the last digit that is kept."""
    has_size = value.is_finite() and bool(value)
    if leading is None:
        exponent = value.adjusted() if has_size else 0
        return exponent, exponent - 4
    digits, power = f"{float(leading):.2e}".split("e")
    place = int(power) - (int(digits.replace(".", "")) <= 354)
    # Powers of a thousand. An error of 0.001 to 99 needs none.
    size = leading.adjusted()
    exponent = 0 if -3 <= size <= 1 else -3 * (-size // 3)
    if has_size:
        exponent = max(exponent, 3 * (value.adjusted() // 3))
    return exponent, place


def _strip(cells: list[str | None], decimals: int) -> list[str | None]:
    """Strips the trailing zeros after the decimal point that all numbers have in common."""
    present = [cell for cell in cells if cell is not None]
    common = min((len(cell) - len(cell.rstrip("0")) for cell in present), default=0)
    drop = min(common, decimals)
    if drop and drop == decimals:
        drop += 1  # the point too
    return [None if cell is None else cell[: len(cell) - drop] for cell in cells]


def share(count: int, size: int) -> str:
    """Returns `"987 of 1000 (98.7 %)"`; never rounded up to all, nor down to none."""
    if size == 0:
        return "0 of 0"
    percent = 100 * count / size
    if 0 < count < size:
        percent = min(max(percent, 0.1), 99.9)
    return f"{count} of {size} ({percent:.{1 if 0 < count < size else 0}f} %)"


def fits(count: int, kind: str = "fit", width: int = 0) -> str:
    """Returns `"1 fit"`, `"12 valid fits"`."""
    return f"{count:{width}} {kind}{'' if count == 1 else 's'}"


def with_error(value: float, error: float) -> str:
    """Returns a number and its error with two digits of the error: `0.013 ± 0.010`."""
    if not math.isfinite(value):
        return "—"
    if not math.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    places = 1 - math.floor(math.log10(error))
    if abs(value) >= 1e7 or places > 9:
        return f"{value:.4g} ± {error:.2g}"
    places = max(places, 0)
    return f"{value:.{places}f} ± {error:.{places}f}"
