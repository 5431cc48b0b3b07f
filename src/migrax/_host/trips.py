"""How many trips through loops Python may make, before a program takes less time."""

MAX_TRIPS = 20_000  # some seconds at most: longer than most programs take to compile
LONGEST_BRANCH = 1.0  # seconds of one evaluation, roughly


class TooLong(Exception):
    """Raised by a loop or a branch that is too long for Python, or never ends: it has to be part of a program."""


class OutOfTrips(TooLong):
    """Raised where the loops of an algorithm made too many trips in one call."""


class Trips:
    """How many trips through loops are left to a call."""

    def __init__(self) -> None:
        self._left = MAX_TRIPS

    def count(self) -> None:
        """**Raises:** `OutOfTrips` when none is left."""
        self._left -= 1
        if self._left < 0:
            raise OutOfTrips
