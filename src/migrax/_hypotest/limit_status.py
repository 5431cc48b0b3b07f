"""The outcome of the search for a limit or for the end of an interval."""

import enum


class LimitStatus(enum.IntEnum):
    """The outcome of the search for a limit or for the end of an interval. The value is NaN unless it is `FOUND` (or,
    for an interval, `AT_BOUND`)."""

    FOUND = 0
    FIT_FAILED = 1  # a fit to the data or to the Asimov data, free or conditional, is not valid
    BEYOND_BOUND = 2  # the upper bound of the parameter is not excluded: raise it
    NO_EFFECT = 3  # no value is excluded: the signal has no effect
    NONE_ALLOWED = 4  # already excluded without a signal, which never happens with CLs
    AT_BOUND = 5  # the interval ends at a bound of the parameter
