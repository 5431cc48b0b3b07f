"""The likelihoods of the data and of the Asimov data along the parameter of interest."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._fit.objective import kinks_of
from .._fit.result import FitResult
from .._fit.status import Status
from .._likelihoods.base import AbstractLikelihood, Function
from .._parameters.resolve import resolve
from .._parameters.space import ravel
from .._profile.conditional_covariance import conditional_shift
from .._profile.fitted import Fitted
from .._profile.minimum import Hold, Minimum, at_minimum
from .._profile.refit import refit
from .._util.typing import PyTree
from .asymptotic import Reference
from .ratio import Ratio


class LimitProblem(eqx.Module):
    """What the limits are roots of."""

    nll: AbstractLikelihood
    found: Ratio  # the conditional fits of the data at 0 (for a tilde statistic) and at the alternative
    data: PyTree
    there: Reference
    index: Int[Array, ""] = eqx.field(converter=jnp.asarray)
    at: Float[Array, "1"]  # the alternative
    alpha: Scalar = eqx.field(converter=jnp.asarray)
    distances: Float[Array, "5"]  # standard deviations from the alternative at the limits that are expected


class _Point(NamedTuple):
    """A conditional fit: -2 log of the ratio and its slope, where the other parameters are."""

    q: Scalar
    slope: Scalar
    x: Float[Array, " n"]
    good: Bool[Array, ""]


class Side(NamedTuple):
    """The likelihood of some data along the parameter of interest. `nll` closes over nothing, so that what it holds can
    be kept from derivatives."""

    nll: Function
    fit: FitResult
    data: PyTree
    position: Int[Array, ""]  # of the parameter of interest
    kinks: Float[Array, "m n"] | None  # of the likelihood, which `nll` does not know any more

    @property
    def minimum(self) -> Minimum:
        minimum = at_minimum(Fitted(self.nll, self.fit, self.data))
        if self.kinks is not None:
            minimum = minimum._replace(space=minimum.space.with_kinks(self.kinks))
        return minimum

    @property
    def poi(self) -> Bool[Array, " n"]:
        """Which of the free parameters it is."""
        return jnp.arange(self.fit.values.size) == self.position

    def at(self, mu: Scalar, near: Float[Array, " n"], skip: Bool[Array, ""], robust: bool) -> _Point:
        minimum, poi = self.minimum, self.poi
        there = jnp.where(poi, mu, near)
        rows = poi[None].astype(minimum.x.dtype)
        shift = conditional_shift(minimum.covariance, rows, there - near)
        start = minimum.space.clip(jnp.where(poi, there, near + shift))
        found = refit(minimum, Hold(rows, there), jnp.where(poi, there, start), skip, robust)
        q = 2 * (found.value - minimum.fn(minimum.x, minimum.theta))
        gradient = jax.grad(minimum.fn)(found.x, minimum.theta)
        # lower than the free fit by more than rounding: that was not the minimum
        good = (found.status == int(Status.VALID)) & jnp.isfinite(q) & (q > -1e-3) & minimum.valid
        return _Point(jnp.maximum(q, 0.0), 2 * jnp.sum(poi * gradient), found.x, good)


class Sides(NamedTuple):
    """That of the data and that of the Asimov data, as two lanes of one program, with a leading axis; as two, where
    their data have other shapes. Or that of the Asimov data alone."""

    sides: Side | tuple[Side, ...]

    def at(self, mu: Scalar, near: Float[Array, "k n"], skip: Bool[Array, " k"], robust: bool) -> _Point:
        return self.each(lambda side, near, skip: side.at(mu, near, skip, robust), near, skip, together=not robust)

    def each(self, fn: Callable[..., Any], *args: PyTree, together: bool = True) -> Any:
        """`fn(side, ...)` of all sides, with their parts of `args`, with a leading axis: as lanes if `together`, else
        one after the other, which is compiled sooner where `fn` has loops within loops."""
        if isinstance(self.sides, Side):
            side = self.sides
            one = lambda fit, data, *args: fn(side._replace(fit=fit, data=data), *args)  # noqa: E731
            if together:
                return eqx.filter_vmap(one)(side.fit, side.data, *args)
            arrays, static = eqx.partition((side.fit, side.data, *args), eqx.is_array)
            return lax.map(lambda lane: one(*eqx.combine(lane, static)), arrays)
        each = [fn(side, *jax.tree.map(lambda a: a[k], args)) for k, side in enumerate(self.sides)]  # noqa: B023
        return jax.tree.map(lambda *a: jnp.stack(a), *each)

    @property
    def asimov(self) -> "Sides":
        """That of the Asimov data alone."""
        if not isinstance(self.sides, Side):
            return Sides(self.sides[-1:])
        last = lambda tree: jax.tree.map(lambda a: a[-1] if eqx.is_array(a) else a, tree)  # noqa: E731
        return Sides((self.sides._replace(fit=last(self.sides.fit), data=last(self.sides.data)),))


def sides_of(problem: LimitProblem) -> Sides:
    """Those of the data and of the Asimov data."""
    nll, first, second = problem.nll, problem.found.free, problem.there.free

    def side(fit: FitResult, data: PyTree) -> Side:
        converted = Function(eqx.filter_closure_convert(nll, resolve(fit.params), data))
        kinks = kinks_of(nll, fit.params, ravel(fit.params)[1])
        return Side(converted, fit, data, problem.index, kinks)

    both = _stacked((first, problem.data), (second, problem.there.data))
    if both is None:
        return Sides((side(first, problem.data), side(second, problem.there.data)))
    example = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, both)
    return Sides(side(*example)._replace(fit=both[0], data=both[1]))


def _stacked(a: PyTree, b: PyTree) -> PyTree:
    """Two trees as one with a leading axis; `None` where their shapes differ."""
    (a, static), (b, others) = (eqx.partition(tree, eqx.is_array) for tree in (a, b))
    same = jax.tree.structure(a) == jax.tree.structure(b) and eqx.tree_equal(static, others)
    if not same or any(x.shape != y.shape for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)):
        return None
    dtype = lambda x, y: x.dtype if x.dtype == y.dtype else jnp.result_type(float)  # noqa: E731
    return eqx.combine(jax.tree.map(lambda x, y: jnp.stack([z.astype(dtype(x, y)) for z in (x, y)]), a, b), static)
