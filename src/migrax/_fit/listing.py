"""The parameters of fits with all that is known of each: columns of a table, entries of a dictionary."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._parameters.entries import entries
from .._util.frames import beside, data_frame, lane_frame
from .._util.result import names_of
from .status import Status

if TYPE_CHECKING:
    from pandas import DataFrame


def parameters_of(result: Any) -> dict[str, dict[str, Any]]:
    """By name, the free parameters and the fixed ones of one fit or many.

    **Arguments:**

    - `result`: a `FitResult`.

    **Returns:** for each entry of each parameter `value`, `error`, `minos_lower`, `minos_upper`, `lower`, `upper`,
    `at_limit`, arrays of the shape of the fits, and `fixed`, one bool. NaN is an error that is not known; of a fixed
    parameter `error` is 0.
    """
    lanes = np.shape(result.nll)
    minos = (np.full(np.shape(result.values), np.nan),) * 2 if result.minos is None else result.minos
    arrays = {"error": result.errors, "minos_lower": minos[0], "minos_upper": minos[1], "at_limit": result.at_limit}
    free = {name: np.asarray(array) for name, array in arrays.items()}
    found, position = {}, 0
    for name, floats, value, lower, upper in entries(result.params, len(lanes)):
        if floats:
            error, minos_lower, minos_upper, at_limit = (array[..., position] for array in free.values())
            position += 1
        else:
            error, at_limit = np.zeros_like(value), np.zeros(lanes, bool)
            minos_lower = minos_upper = np.full_like(value, np.nan)
        found[name] = {
            "value": value,
            "error": error,
            "minos_lower": minos_lower,
            "minos_upper": minos_upper,
            "lower": lower,
            "upper": upper,
            "fixed": not floats,
            "at_limit": at_limit,
        }
    return found


def frame_of(result: Any) -> "DataFrame":
    """Of one fit, one row a parameter; of many, one row a fit."""
    lanes = np.shape(result.nll)
    if not lanes:
        rows = parameters_of(result)
        columns = {what: [row[what] for row in rows.values()] for what in next(iter(rows.values()))}
        return data_frame(columns, list(rows), "name")
    kinds = {"": result.values, "_error": result.errors}
    if result.minos is not None:
        kinds |= {"_minos_lower": result.minos[0], "_minos_upper": result.minos[1]}
    found = [(name + what, a[..., i]) for what, a in kinds.items() for i, name in enumerate(result.names)]
    others = {"nll": result.nll, "valid": result.valid, "status": names_of(Status, result.status)}
    return lane_frame(beside(found, others), lanes)
