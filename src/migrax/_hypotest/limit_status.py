"""The outcome of the search for a limit or for the end of an interval."""

import enum


class LimitStatus(enum.IntEnum):
    """The outcome of the search for a limit or for one end of an interval.

    The limit or end is NaN unless this is `FOUND` (or, for an interval, `AT_BOUND`: the interval extends to a bound of
    the parameter). The others: `FIT_FAILED`, a fit is not valid; `BEYOND_BOUND`, the upper bound of the parameter is
    not excluded; `NO_EFFECT`, no value is excluded; `NONE_ALLOWED`, even the value without a signal is excluded;
    `OUTSIDE_VALUES`, the limit is not between the values that were given.
    """

    FOUND = 0
    FIT_FAILED = 1  # a fit to the data or to the Asimov data, free or conditional, is not valid
    BEYOND_BOUND = 2  # the upper bound of the parameter is not excluded: raise this bound
    NO_EFFECT = 3  # no value is excluded: the signal has no effect on the likelihood
    NONE_ALLOWED = 4  # even the value without a signal is excluded, which never happens with CLs
    AT_BOUND = 5  # the interval ends at a bound of the parameter
    OUTSIDE_VALUES = 6  # it is not between the values at which toys were to be made: give smaller or larger ones
