"""How a fit ended, in a sentence: what its status means, and what in the model or in the data is to blame."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._likelihoods.fault import Fault
from .._util.tracing import is_concrete
from .status import Status

_SHARE = 0.1  # of a direction's length that a parameter must have to be named
_MAX_NAMED = 6

Paths = tuple[tuple[str, tuple[int, ...]], ...]  # of the arrays of the data: their places and shapes


def message(
    status: Any, direction: ArrayLike, names: tuple[str, ...], bad_data: ArrayLike, data_paths: Paths, blame: str
) -> str:
    """The sentence of a status, with what is to blame.

    **Arguments:**

    - `status`: an `mx.Status` number.
    - `direction`: shape `(n,)`, of the parameters `names`: what the data do not determine.
    - `bad_data`: shape `(2,)`, an entry of the data, counted over all arrays of `data_paths` (-1: none), and its
        `Fault`.
    - `blame`: what in the model is not finite; may be empty.

    **Raises:** `TypeError` for a traced status, `ValueError` for many.
    """
    if not is_concrete(status):
        raise TypeError(
            "message is text, which cannot come out of jit, vmap or grad: return the result, and ask it then"
        )
    if np.ndim(status) != 0:
        raise ValueError("message is of one fit; take a lane first: jax.tree.map(lambda x: x[0], results).message")
    kind = Status(int(status))
    text = kind.message
    if kind in (Status.FLAT_DIRECTION, Status.NOT_POSITIVE_DEFINITE, Status.FALLS_WITHOUT_LIMIT):
        text = f"Along {_direction(np.asarray(direction), names)}: {text[0].lower()}{text[1:]}"
    entry, fault = (int(i) for i in np.asarray(bad_data))
    if kind in (Status.NOT_FINITE, Status.NOT_FINITE_AT_START) and entry >= 0:
        where = _place(entry, data_paths, of_events=fault == Fault.NO_DENSITY)
        text = f"{Fault(fault).sentence(where)} {text}"
    if kind in (Status.NOT_FINITE, Status.NOT_FINITE_AT_START) and blame:
        text = f"{blame} {text}"
    return text


def _direction(parts: np.ndarray, names: tuple[str, ...]) -> str:
    """The parameters that a direction is made of, the largest part first."""
    size = np.abs(parts)
    order = [int(i) for i in np.argsort(-size, kind="stable") if size[i] > _SHARE * size.max()]
    shown = ", ".join(names[i] for i in order[:_MAX_NAMED])
    if len(order) > _MAX_NAMED:
        return f"a direction made of {shown} and {len(order) - _MAX_NAMED} more"
    return shown if len(order) == 1 else f"a direction made of {shown} together"


def _place(flat_index: int, paths: Paths, of_events: bool) -> str:
    """The words for an entry of the data, counted over all of its arrays: `data['y'][3]`; `of_events`: for its row."""
    for path, shape in paths:
        size = int(np.prod(shape, dtype=int))
        if flat_index < size:
            index = np.unravel_index(flat_index, shape)[: 1 if of_events else None]
            return f"data{path}" + (f"[{', '.join(map(str, index))}]" if shape else "")
        flat_index -= size
    return "data"
