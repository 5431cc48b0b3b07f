"""The vectors of a fit: conversion between trees of parameters and vectors, and MINUIT's transforms of bounds.

A fit uses three representations of the parameters: the user's *tree*; the *external* vector `x` of shape `(n_free,)` in
the user's units; and the *internal* vector `q`, which has no bounds. The transforms are MINUIT's (F. James, MINUIT
Reference Manual, CERN D506, section 1.2.1):

    both bounds   x = a + (b - a) (sin q + 1) / 2
    lower only    x = a - 1 + sqrt(q^2 + 1)
    upper only    x = b + 1 - sqrt(q^2 + 1)

except for the unit of the last two, which is the distance of the start to the bound where that is less than a
thousandth, so that a cross section of 1e-38 is handled as well as one of 1.
"""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._host import flow, xp
from .._host.xp import is_on_host
from .._util.fields import with_fields
from .._util.typing import PyTree
from .names import Slot, flatten
from .parameter import bounds_of, is_parameter
from .resolve import value_of

# A start closer to a bound than the first (internal units) is moved to the second: at the bound itself dx/dq = 0, so
# that the gradient vanishes and the parameter would never move (minuit.md, point 4).
_ON_THE_BOUND = 1e-6
_MOVED_TO = 0.1


@functools.partial(
    jtu.register_dataclass,
    data_fields=("lower", "upper", "unit", "period", "origin", "kinks"),
    meta_fields=("names", "has_bounds", "has_period"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """The space of the free parameters as a vector: their names, bounds and periods. `lower`, `upper` and `period` are
    infinite where there is none."""

    lower: Float[Array, " n"]
    upper: Float[Array, " n"]
    unit: Float[Array, " n"]  # of the one-sided transforms
    names: tuple[str, ...]
    has_bounds: bool
    period: Float[Array, " n"]
    origin: Float[Array, " n"]  # the lower end of the period in which a parameter is reported
    has_period: bool
    kinks: Float[Array, "m n"] | None = None  # the values at which the slope of the objective jumps; NaN for none

    def wrap(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Shifts periodic parameters into the period in which they are reported. The shift has no derivative."""
        if not self.has_period:
            return x
        periodic = xp.isfinite(self.period)
        period = xp.where(periodic, self.period, 1.0)
        turns = flow.stop_gradient(xp.floor(xp.where(periodic, (x - self.origin) / period, 0.0)))
        wrapped = x - turns * xp.where(periodic, period, 0.0)
        # Rounding may give the upper end of the period, which is the lower one.
        return xp.where(periodic & (wrapped >= self.origin + period), wrapped - period, wrapped)

    def nearest(self, difference: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
        """A difference of two points, taken the shorter way round for periodic parameters."""
        if not self.has_period:
            return difference
        periodic = xp.isfinite(self.period)
        turns = xp.round(difference / xp.where(periodic, self.period, xp.inf))
        return difference - flow.stop_gradient(turns) * xp.where(periodic, self.period, 0.0)

    def external(self, q: Float[Array, " n"]) -> Float[Array, " n"]:
        """Converts internal to external coordinates, which are never outside the bounds, even by rounding."""
        if not self.has_bounds:
            return q
        a, b, both, lower, upper = self._bound_kinds()
        one_sided = self.unit * _root_minus_one(q)
        # sin(q) + 1 = 2 sin^2(q/2 + pi/4), without its cancellation at the lower bound
        x = xp.where(both, a + (b - a) * xp.sin(0.5 * q + 0.25 * xp.pi) ** 2, q)
        x = xp.where(lower, a + one_sided, x)
        x = xp.where(upper, b - one_sided, x)
        return self.clip(x)

    def internal(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Converts external to internal coordinates. A point on a bound is moved inside; one beyond it gives NaN."""
        if not self.has_bounds:
            return x
        a, b, both, lower, upper = self._bound_kinds()
        fraction = xp.where(both, (x - a) / (b - a), 0.5)
        edge = xp.asarray(xp.pi / 2, x.dtype)
        # acos and asin lose half of the digits at the ends; atan2 of the two half-chords does not.
        angle = 2 * xp.arctan2(_safe_sqrt(fraction), _safe_sqrt(1 - fraction)) - edge
        inside = edge - _MOVED_TO
        angle = xp.where(edge - xp.abs(angle) < _ON_THE_BOUND, xp.copysign(inside, angle), angle)
        distance = xp.where(lower, x - a, xp.where(upper, b - x, 1.0)) / self.unit
        root = _safe_sqrt(distance * (distance + 2))
        root = _moved_off_bound(root)
        q = xp.where(both, angle, xp.where(lower | upper, root, x))
        return xp.where((x < self.lower) | (x > self.upper), xp.nan, q)

    def clip(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The nearest point within the bounds."""
        return xp.clip(x, self.lower, self.upper) if self.has_bounds else x

    def inside(self, x: Float[Array, " n"], by: Float[Array, " n"]) -> Float[Array, " n"]:
        """The nearest point at a distance of at least `by` from each bound, or the middle if they are too close."""
        if not self.has_bounds:
            return x
        margin = xp.where(xp.isfinite(self.upper - self.lower), xp.minimum(by, 0.5 * (self.upper - self.lower)), by)
        return xp.clip(x, self.lower + margin, self.upper - margin)

    def lower_is_nearer(self, x: Float[Array, " n"]) -> Bool[Array, " n"]:
        """Whether the lower bound is the nearer one; true where there is no bound."""
        return x - self.lower <= self.upper - x

    def nearer_bound(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The nearer of the two bounds; infinite where there is none."""
        return xp.where(self.lower_is_nearer(x), self.lower, self.upper)

    def room(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The distance to the nearer bound."""
        return xp.minimum(x - self.lower, self.upper - x)

    def with_unit(self, unit: Float[Array, " n"]) -> "Space":
        """The space with another unit of the one-sided transforms."""
        return with_fields(self, unit=unit)

    def touches(self, x: Float[Array, " n"]) -> Bool[Array, ""]:
        """Whether a point lies on a bound."""
        return xp.any((x <= self.lower) | (x >= self.upper)) if self.has_bounds else xp.array(False)

    def num_inside(self, x: Float[Array, " n"]) -> Int[Array, ""]:
        """The number of parameters that do not lie on a bound."""
        return xp.sum(~((x <= self.lower) | (x >= self.upper)))

    def without(self, which: Bool[Array, " n"]) -> "Space":
        """The space without the bounds and periods of the parameters `which`."""
        if self.has_period:
            self = with_fields(self, period=xp.where(which, xp.inf, self.period))
        if not self.has_bounds:
            return self
        lower, upper = xp.where(which, -xp.inf, self.lower), xp.where(which, xp.inf, self.upper)
        return self.between(lower, upper)

    def shrink(self, x: Float[Array, " n"]) -> "Space":
        """The space with its bounds moved towards `x`, by a tiny part (a multiple of the rounding) of the distance."""
        if not self.has_bounds:
            return self
        margin = 1e4 * xp.finfo(x.dtype).eps
        lower = self.lower + xp.where(xp.isfinite(self.lower), margin * (x - self.lower), 0.0)
        upper = self.upper - xp.where(xp.isfinite(self.upper), margin * (self.upper - x), 0.0)
        return with_fields(self, lower=lower, upper=upper)

    def with_kinks(self, kinks: Float[Array, "m n"]) -> "Space":
        """The space with kinks at the values `kinks`; those that are not strictly within the bounds are dropped."""
        inside = (kinks > self.lower) & (kinks < self.upper)
        return with_fields(self, has_bounds=True, kinks=xp.where(inside, kinks, xp.nan))

    def between(self, lower: Float[Array, " n"], upper: Float[Array, " n"]) -> "Space":
        """The space with other bounds."""
        return with_fields(self, lower=lower, upper=upper)

    def where(self, which: Bool[Array, "*n"], other: "Space") -> "Space":
        """The space with these bounds where `which`, else with those of `other`."""
        if not self.has_bounds:
            return self
        lower, upper = xp.where(which, self.lower, other.lower), xp.where(which, self.upper, other.upper)
        return with_fields(self, lower=lower, upper=upper)

    def slopes(self, q: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """dx/dq and d²x/dq² at `q`."""
        if not self.has_bounds:
            return xp.ones_like(q), xp.zeros_like(q)
        a, b, both, lower, upper = self._bound_kinds()
        half = 0.5 * (b - a)
        hypotenuse = xp.sqrt(q**2 + 1)
        sign = xp.where(upper, -self.unit, self.unit).astype(q.dtype)
        one_sided = lower | upper
        first = xp.where(both, half * xp.cos(q), xp.where(one_sided, sign * q / hypotenuse, 1.0))
        second = xp.where(both, -half * xp.sin(q), xp.where(one_sided, sign / hypotenuse**3, 0.0))
        return first, second

    def _bound_kinds(self) -> tuple[Array, Array, Bool[Array, " n"], Bool[Array, " n"], Bool[Array, " n"]]:
        """The bounds, replaced by numbers where there is none, and which parameters have both, a lower, an upper one
        only. The host asks at each evaluation, so it keeps them."""
        kept = self.__dict__.get("_kept")
        if kept is not None and kept[0] is self.lower and kept[1] is self.upper:
            return kept[2]
        has_lower, has_upper = xp.isfinite(self.lower), xp.isfinite(self.upper)
        both = has_lower & has_upper
        a = xp.where(has_lower, self.lower, 0.0)
        b = xp.where(has_upper, self.upper, a + 1.0)
        kinds = a, b, both, has_lower & ~both, has_upper & ~both
        if is_on_host():
            self.__dict__["_kept"] = self.lower, self.upper, kinds
        return kinds


def _root_minus_one(q: Array) -> Array:
    return q**2 / (xp.sqrt(q**2 + 1) + 1)


def _safe_sqrt(x: Array) -> Array:
    """The square root; 0, with derivative 0, at and below 0."""
    positive = x > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1.0)), 0.0)


def _moved_off_bound(distance: Array) -> Array:
    return xp.where(distance < _ON_THE_BOUND, xp.asarray(_MOVED_TO, distance.dtype), distance)


def _dtype(arrays: list[Any]) -> Any:
    with jax.numpy_dtype_promotion("standard"):
        return xp.result_type(*dict.fromkeys(x.dtype for x in arrays))


def ravel(params: PyTree) -> tuple[Float[Array, " n"], Space]:
    """The external start vector of a tree of parameters, and its `Space`.

    **Raises:** `ValueError` if nothing floats, `TypeError` if a parameter is complex.
    """
    leaves, slots, _ = flatten(params)
    free = [slot for slot in slots if np.any(slot.free)]
    if not free:
        raise ValueError(_nothing_floats(leaves, slots))
    for slot in free:
        if xp.iscomplexobj(value_of(leaves[slot.leaf])):
            raise TypeError(f"{slot.name!r} is complex; parameters are real numbers")
    dtype = _dtype([value_of(leaves[slot.leaf]) for slot in free])
    x, lower, upper = _Entries(0.0, dtype), _Entries(-np.inf, dtype), _Entries(np.inf, dtype)
    period, origin = _Entries(np.inf, dtype), _Entries(0.0, dtype)
    has_bounds = has_period = False
    for slot in free:
        leaf = leaves[slot.leaf]
        x.add(slot, value_of(leaf))
        low, high = bounds_of(leaf)
        leaf_period = leaf.period if is_parameter(leaf) else None
        leaf_origin = None if leaf_period is None else -0.5 * leaf_period if leaf.lower is None else leaf.lower
        period.add(slot, leaf_period)
        origin.add(slot, leaf_origin)
        has_period |= leaf_period is not None
        has_bounds |= low is not None or high is not None
        lower.add(slot, low)
        upper.add(slot, high)
    names = tuple(name for slot in free for name in slot.free_names())
    start, low, high = x.joined(), lower.joined(), upper.joined()
    distance = xp.minimum(xp.abs(start - low), xp.abs(high - start))
    unit = flow.stop_gradient(xp.where((distance > 0) & (distance < 1e-3), distance, 1.0))
    return start, Space(low, high, unit, names, has_bounds, period.joined(), origin.joined(), has_period)


class _Entries:
    """The free entries of all parameters, of one quantity: their start, a bound. There may be thousands of parameters,
    so each costs as few operations as can be, and those without it none."""

    def __init__(self, default: float, dtype: Any):
        self._default, self._dtype = default, dtype
        self._pieces: list[Any] = []  # arrays, or for entries without the quantity their number

    def add(self, slot: Slot, value: Any) -> None:
        if value is None:
            self._add_none(int(np.sum(slot.free)) if slot.partly else slot.size)
            return
        if value.shape != slot.shape:
            value = xp.broadcast_to(value, slot.shape)
        piece = value.reshape(-1) if value.dtype == self._dtype else value.reshape(-1).astype(self._dtype)
        self._pieces.append(piece[np.flatnonzero(slot.free)] if slot.partly else piece)

    def _add_none(self, size: int) -> None:
        if self._pieces and isinstance(self._pieces[-1], int):
            self._pieces[-1] += size
        else:
            self._pieces.append(size)

    def joined(self) -> Array:
        pieces = [xp.full(p, self._default, self._dtype) if isinstance(p, int) else p for p in self._pieces]
        return pieces[0] if len(pieces) == 1 else xp.concatenate(pieces)


def starts_are(params: PyTree, dtype: Any) -> bool:
    """Whether the vector of a fit from here has this dtype."""
    leaves, slots, _ = flatten(params)
    free = [value_of(leaves[slot.leaf]) for slot in slots if np.any(slot.free)]
    return bool(free) and _dtype(free) == dtype


def _nothing_floats(leaves: list[Any], slots: list[Slot]) -> str:
    if not leaves:
        return "the tree of parameters is empty; give at least one number or mx.Parameter"
    if slots:
        return f"no free parameter: {', '.join(repr(s.name) for s in slots)} are all fixed or empty"
    if any(isinstance(leaf, int) or eqx.is_array(leaf) for leaf in leaves):
        return "no free parameter: integers do not float. Write 1.0 instead of 1, or wrap a float in mx.Parameter"
    return "no free parameter: the tree holds neither an mx.Parameter nor a floating-point number"


def resolve_at(params: PyTree, x: Float[Array, " n"]) -> PyTree:
    """The resolved tree, as a likelihood is called with it, with the free parameters from the external vector `x`."""
    return _rebuild(params, x, keep_nodes=False)


def update(params: PyTree, x: Float[Array, " n"]) -> PyTree:
    """The user's tree with its free parameters replaced by the external vector `x`: ready to be the next start."""
    return _rebuild(params, x, keep_nodes=True)


def _rebuild(params: PyTree, x: Float[Array, " n"], *, keep_nodes: bool) -> PyTree:
    leaves, slots, treedef = flatten(params)
    new = list(leaves)
    # A single primitive, with a single one as transpose: with a slice per parameter the derivative would sum as many.
    sizes = [int(np.sum(slot.free)) for slot in slots]
    pieces = xp.split_by_size(x, sizes)
    for slot, piece in zip(slots, pieces, strict=True):
        leaf = leaves[slot.leaf]
        value = value_of(leaf)
        if piece.size > 0:
            entries = piece.astype(value.dtype)
            if slot.partly:
                entries = xp.set_at(xp.ravel(value), np.flatnonzero(slot.free), entries)
            value = entries.reshape(slot.shape)
        if keep_nodes and is_parameter(leaf):
            new[slot.leaf] = with_fields(leaf, value=value)
        else:
            new[slot.leaf] = value
    return jtu.tree_unflatten(treedef, new)
