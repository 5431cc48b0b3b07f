"""The status of a fit: one number for each fit, with a phrase and a message that says what to do."""

import enum

import numpy as np
from numpy.typing import ArrayLike


class Status(enum.IntEnum):
    """The status of a fit. Only `VALID` is a minimum that can be trusted.

    `result.status` is an integer array (one number for each of vmapped fits). `mx.Status(int(result.status)).message`
    says what it means and what to do; `np.bincount(result.status)` counts the statuses of many fits.
    """

    VALID = 0
    MAX_STEPS = 1
    NOT_FINITE_AT_START = 2
    OUTSIDE_BOUNDS = 3
    FLAT_DIRECTION = 4
    NOT_POSITIVE_DEFINITE = 5
    NOT_CONVERGED = 6
    FALLS_WITHOUT_LIMIT = 7
    NOT_FINITE = 8

    @property
    def phrase(self) -> str:
        """The status in a few words, as in printed tables."""
        return _PHRASES[self][0]

    @property
    def message(self) -> str:
        """The meaning of the status and what to do, in one or two sentences."""
        return _PHRASES[self][1]


_PHRASES = {
    Status.VALID: ("Valid minimum", "The minimum is valid."),
    Status.MAX_STEPS: (
        "Step limit reached",
        "The step limit was reached before the minimum. Give a larger `max_steps`, or continue from `result.params`.",
    ),
    Status.NOT_FINITE_AT_START: (
        "Not finite at the start",
        "The likelihood or its gradient is NaN or infinite at the start. Check the data and the model there, or start "
        "elsewhere.",
    ),
    Status.OUTSIDE_BOUNDS: (
        "Start outside the bounds",
        "A start value is NaN or outside its bounds, or a lower bound is not below the upper one.",
    ),
    Status.FLAT_DIRECTION: (
        "Flat direction",
        "The second derivatives vanish along a direction, so that the data do not determine it. Fix a parameter, or "
        "add a constraint.",
    ),
    Status.NOT_POSITIVE_DEFINITE: (
        "Not a minimum (negative curvature)",
        "The fit ended where the likelihood curves downwards (a saddle or a maximum). Start elsewhere, or bound the "
        "parameters.",
    ),
    Status.NOT_CONVERGED: (
        "Not converged",
        "The fit made no further progress although the gradient is not zero there: a kink (say where, by "
        "mx.Likelihood(nll, kinks=...)), a step, noise in the likelihood, or the edge of where it is defined (an "
        "expected count of 0). Bound the parameters, start elsewhere, or look at it with a scan.",
    ),
    Status.FALLS_WITHOUT_LIMIT: (
        "Falls without limit",
        "The function falls without an end in sight: there is no minimum near. Is it minus log L, with that sign? If "
        "so, bound the parameters.",
    ),
    Status.NOT_FINITE: (
        "Not finite",
        "The likelihood, its gradient or its second derivatives are NaN or infinite at the point where the fit ended.",
    ),
}


def status_counts(status: ArrayLike) -> list[tuple[str, int]]:
    """The phrase and the number of each status that occurs, the most frequent first."""
    counts = np.bincount(np.ravel(np.asarray(status)), minlength=len(Status))
    return sorted(((Status(i).phrase, int(n)) for i, n in enumerate(counts) if n), key=lambda pair: -pair[1])
