"""Events, the data of unbinned likelihoods, in memory or on disk, and sums over them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Scalar

from .._hints.calls import given, refuse_strangers
from .._util.chunks import chunked_sum
from .._util.on_disk import OnDisk
from .._util.poisson_draw import draw_poisson
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .counts import floats
from .fault import Fault


class Events(eqx.Module):
    """Measured events `x`, optionally with weights, and with a mask if the array is padded.

    Toys of different sizes are stored in arrays of one size, whose unused rows are masked, so that fits to them can be
    vmapped.
    """

    x: Float[Array, "n *dim"]
    weight: Float[Array, " n"] | None
    mask: Bool[Array, " n"] | None
    expected: bool = eqx.field(static=True)

    def __init__(
        self,
        x: ArrayLike,
        weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        *,
        expected: bool = False,
    ):
        """**Arguments:**

        - `x`: the measured values, shape `(n,)`, or `(n, dim)` for several observables per event.
        - `weight`: `None`, or shape `(n,)`; negative weights are used as they are.
        - `mask`: `None`, or booleans of shape `(n,)`: `True` for rows that are events. Other rows are ignored.
            (If no row is an event, the density is evaluated at `x = 0`.)
        - `expected`: `True` for Asimov data: the weights are the numbers of events that are expected at each `x`, so
            that the errors of a fit are those of that many unweighted events.

        **Raises:** `ValueError` for shapes that do not fit together or weights that are not finite; `TypeError` for a
        mask that is not boolean.
        """
        if isinstance(x, OnDisk):
            raise TypeError("events on disk are no mx.Events: weighted ones are mx.OnDisk((x, weight))")
        refuse_strangers(x, "x is")
        refuse_strangers(weight, "weight is")
        self.x = floats(x)
        if self.x.ndim not in (1, 2):
            raise ValueError(f"x must have shape (n,) or (n, dim), got {self.x.shape}")
        self.weight = None if weight is None else floats(weight).astype(self.x.dtype)
        self.mask = None if mask is None else jnp.asarray(mask)
        self.expected = expected
        for name, array in (("weight", self.weight), ("mask", self.mask)):
            if array is not None and array.shape != self.x.shape[:1]:
                raise ValueError(f"{name} must have shape {self.x.shape[:1]}, got {array.shape}")
        if self.mask is not None and self.mask.dtype != bool:
            raise TypeError(f"mask must hold booleans, got {self.mask.dtype}")
        if self.weight is not None and is_concrete(self.weight) and not np.all(np.isfinite(self.weight)):
            raise ValueError(f"weight[{int(np.argmin(np.isfinite(self.weight)))}] is not finite")

    @property
    def size(self) -> int:
        """The number of rows, including masked ones."""
        return self._rows()[-1]

    @property
    def total(self) -> Scalar:
        """The sum of the weights of the events, or their number without weights; for stacked toys one each."""
        weight = jnp.ones(self._rows(), self.x.dtype) if self.weight is None else self.weight
        return jnp.sum(weight if self.mask is None else jnp.where(self.mask, weight, 0.0), axis=-1)

    def _rows(self) -> tuple[int, ...]:
        """The shape of the rows, after the axis of toys if they are stacked (which only masks and weights reveal)."""
        known = self.weight if self.mask is None else self.mask
        return self.x.shape[:1] if known is None else known.shape


def as_events(data: Any, what: str) -> Events:
    """The events, with unused rows filled. **Raises:** `TypeError` unless `data` are `Events` or an array of them."""
    if isinstance(data, Events):
        return filled(data)
    if isinstance(data, jax.Array | np.ndarray):
        return Events(data)
    raise TypeError(f"{what} takes an array of events as data, or mx.Events(x, weight), got {given(data)}")


def as_chunk(data: Any, what: str) -> Events:
    """Convert events as `OnDisk` reads them: an array, or a tuple `(x, weight)`.

    **Raises:** `TypeError` for a tuple of another length.
    """
    if not isinstance(data, tuple):
        return as_events(data, what)
    if len(data) != 2:
        raise TypeError(f"{what} takes x from disk, or a tuple (x, weight), got a tuple of {len(data)}")
    return filled(Events(*data))


def rows_of(data: Any, what: str) -> Any:
    """The object over whose rows a sum over events runs."""
    return data if isinstance(data, OnDisk) else as_events(data, what)


def sum_over(
    terms: Callable[[PyTree, Any], Array], params: PyTree, data: Any, chunk_size: int | None, what: str
) -> Scalar:
    """The sum of the terms of the events, in memory or on disk."""
    return chunked_sum(terms, params, rows_of(data, what), chunk_size=chunk_size)


def kind_for(data: Any, what: str) -> str:
    """The appropriate covariance for the events."""
    if isinstance(data, OnDisk):
        return "sandwich" if data.num_arrays > 1 else "hesse"
    events = as_events(data, what)
    return "hesse" if events.weight is None or events.expected else "sandwich"


def scores_of(log_density: Callable[[Any, Array], Array], params: PyTree, events: Events) -> Float[Array, " n"]:
    """Minus the log density of each event, times its weight: its gradients are the scores. For `expected` numbers of
    events the squared scores are weighted with these numbers, not with their squares."""
    if events.expected and events.weight is not None:
        events = eqx.tree_at(lambda e: e.weight, events, jnp.sqrt(jnp.maximum(events.weight, 0.0)))
    return -log_densities(log_density, params, events)


def log_densities(log_density: Callable[[Any, Array], Array], params: PyTree, events: Events) -> Float[Array, " n"]:
    """weight · log density of each event, 0 in unused rows, which must be `filled` already."""
    x = events.x
    out = jnp.asarray(log_density(params, x))
    if out.shape != x.shape[:1]:
        raise ValueError(
            f"the log density must return one number an event, shape {x.shape[:1]}, got {out.shape}: for x of shape "
            f"{x.shape} as a whole"
        )
    # float32 events with float64 parameters are summed in float64
    out = out.astype(jnp.promote_types(out.dtype, x.dtype))
    if events.weight is not None:
        out = events.weight * out
    used = _used_rows(events)
    return out if used is None else jnp.where(used, out, 0.0)


def _used_rows(events: Events) -> Bool[Array, " n"] | None:
    """The rows that are used: events with nonzero weight. `None`: all."""
    if events.weight is None:
        return events.mask
    return events.weight != 0 if events.mask is None else events.mask & (events.weight != 0)


def filled(events: Events) -> Events:
    """The events, with the `x` of a used row in all unused ones, or 0 without any event. The contents of unused rows
    (NaN, or points where the density is 0) would otherwise turn derivatives into NaN, although multiplied by 0."""
    used = _used_rows(events)
    if used is None or events.x.shape[0] == 0:
        return events
    filler = jnp.where(jnp.any(used), events.x[jnp.argmax(used)], 0.0)
    x = jnp.where(used.reshape(-1, *[1] * (events.x.ndim - 1)), events.x, filler)
    return eqx.tree_at(lambda e: e.x, events, x)


def event_faults(log_density: Callable[[Any, Array], Array], params: PyTree, data: Any, what: str) -> PyTree:
    """`Fault` codes for each array of the events: where the density is 0, negative or NaN. Events on disk are not read
    again."""
    if isinstance(data, OnDisk):
        return ()
    events = as_events(data, what)
    no_faults = jax.tree.map(lambda a: jnp.full(a.shape, int(Fault.NONE)), events)
    out = log_densities(log_density, params, events)
    code = jnp.where(jnp.isfinite(out), int(Fault.NONE), int(Fault.EXPECTED_NOT_FINITE))
    code = jnp.where(jnp.isneginf(out), int(Fault.NO_DENSITY), code)
    shaped = jnp.broadcast_to(code.reshape(-1, *[1] * (events.x.ndim - 1)), events.x.shape)
    return eqx.tree_at(lambda e: e.x, no_faults, shaped)


def resample_events(key: Array, data: Any, who: str) -> Events:
    """A bootstrap sample: each event is counted a Poisson number of times, with mean 1."""
    events = as_events(data, who)
    multiplicity = draw_poisson(key, jnp.ones((), events.x.dtype), events.x.shape[:1])
    return Events(events.x, multiplicity if events.weight is None else multiplicity * events.weight, events.mask)
