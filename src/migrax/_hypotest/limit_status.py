"""How the search for a limit, or the edge of an interval, ended."""

import enum


class LimitStatus(enum.IntEnum):
    """How the search for a limit, or the edge of an interval, ended. Unless it is `FOUND` (or `AT_BOUND`, of an
    interval) it is NaN."""

    FOUND = 0
    FIT_FAILED = 1  # a fit of the data or of the Asimov data, free or conditional, is not valid
    BEYOND_BOUND = 2  # not excluded at the parameter's upper bound: widen it
    NO_EFFECT = 3  # not excluded anywhere: the signal does nothing
    NONE_ALLOWED = 4  # excluded without a signal already, which CLs never is
    AT_BOUND = 5  # of an interval: it reaches to the parameter's bound, and ends there
