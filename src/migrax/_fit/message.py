"""The message of a fit: the meaning of its status, and which part of the model or of the data is the cause."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._likelihoods.fault import Fault
from .._util.tracing import is_concrete
from .status import Status

_SHARE = 0.1  # of the largest component: smaller components of a direction are not named
_MAX_NAMED = 6

Paths = tuple[tuple[str, tuple[int, ...]], ...]  # of the arrays of the data: their places and shapes


def message(
    status: Any, direction: ArrayLike, names: tuple[str, ...], bad_data: ArrayLike, data_paths: Paths, blame: str
) -> str:
    """The message of a status, with its cause.

    **Arguments:**

    - `status`: an `mx.Status` number.
    - `direction`: shape `(n,)`, the direction in the space of the parameters `names` that the data do not determine.
    - `bad_data`: shape `(2,)`, the index of an entry of the data, counted over all arrays of `data_paths` (-1: none),
        and its `Fault`.
    - `blame`: the sentence on what in the model is not finite; may be empty.

    **Raises:** `TypeError` for a traced status, `ValueError` for many.
    """
    if not is_concrete(status):
        raise TypeError(
            "message is text, which cannot be computed inside jit, vmap or grad: return the result, and read it outside"
        )
    if np.ndim(status) != 0:
        raise ValueError("message needs a single fit: jax.tree.map(lambda x: x[0], results).message")
    kind = Status(int(status))
    text = kind.message
    if kind in (Status.FLAT_DIRECTION, Status.NOT_POSITIVE_DEFINITE, Status.FALLS_WITHOUT_LIMIT):
        text = f"Along {_direction_text(np.asarray(direction), names)}: {text[0].lower()}{text[1:]}"
    entry, fault = (int(i) for i in np.asarray(bad_data))
    if kind in (Status.NOT_FINITE, Status.NOT_FINITE_AT_START) and entry >= 0:
        place = _entry_text(entry, data_paths, of_events=fault == Fault.NO_DENSITY)
        text = f"{Fault(fault).sentence(place)} {text}"
    if kind in (Status.NOT_FINITE, Status.NOT_FINITE_AT_START) and blame:
        text = f"{blame} {text}"
    return text


def _direction_text(components: np.ndarray, names: tuple[str, ...]) -> str:
    """The parameters with the largest components of a direction, the largest first, as text."""
    magnitudes = np.abs(components)
    order = [int(i) for i in np.argsort(-magnitudes, kind="stable") if magnitudes[i] > _SHARE * magnitudes.max()]
    shown = ", ".join(names[i] for i in order[:_MAX_NAMED])
    if len(order) > _MAX_NAMED:
        return f"a direction made of {shown} and {len(order) - _MAX_NAMED} more"
    return shown if len(order) == 1 else f"a direction made of {shown} together"


def _entry_text(flat_index: int, paths: Paths, of_events: bool) -> str:
    """The text for an entry of the data, indexed over all of its arrays: `data['y'][3]`, or its row if `of_events`."""
    for path, shape in paths:
        size = int(np.prod(shape, dtype=int))
        if flat_index < size:
            index = np.unravel_index(flat_index, shape)[: 1 if of_events else None]
            return f"data{path}" + (f"[{', '.join(map(str, index))}]" if shape else "")
        flat_index -= size
    return "data"
