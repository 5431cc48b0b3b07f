"""The profile likelihoods of the data and of the Asimov data along the parameter of interest."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._fit.objective import kinks_of
from .._fit.result import FitResult
from .._fit.status import Status
from .._host import xp
from .._host.hosted import is_for_host
from .._likelihoods.base import AbstractLikelihood, Function
from .._parameters.resolve import resolve
from .._parameters.space import ravel
from .._profile.conditional_covariance import conditional_shift
from .._profile.fitted import Fitted
from .._profile.minimum import Hold, Minimum, at_minimum
from .._profile.on_host import OnHost, evaluated
from .._profile.refit import refit
from .._util.background import Repeats
from .._util.typing import PyTree
from .asymptotic import Reference
from .ratio import Ratio

_GRADIENTS = 50  # of the search for all six limits, of each side


class LimitProblem(eqx.Module):
    """The likelihood, fits and levels that define the limits."""

    nll: AbstractLikelihood
    conditional: Ratio  # conditional fits to the data, at 0 (for a tilde statistic) and at the alternative
    data: PyTree
    asimov: Reference
    index: Int[Array, ""] = eqx.field(converter=xp.asarray)  # of the parameter of interest
    alternative: Float[Array, "1"]
    alpha: Scalar = eqx.field(converter=xp.asarray)
    distances: Float[Array, "5"]  # of the expected limits from the alternative, in standard deviations


class _ConditionalFit(NamedTuple):
    """A conditional fit."""

    q: Scalar  # -2 log of the likelihood ratio
    slope: Scalar  # derivative of `q` by the parameter of interest
    x: Float[Array, " n"]
    good: Bool[Array, ""]


class LimitSide(NamedTuple):
    """The profile likelihood of some data along the parameter of interest. `nll` closes over nothing, so that
    derivatives with respect to its contents can be stopped."""

    nll: Function
    fit: FitResult
    data: PyTree
    position: Int[Array, ""]  # of the parameter of interest
    kinks: Float[Array, "m n"] | None  # of the likelihood, which the converted `nll` does not declare
    known: Minimum | None = None  # on the host

    @property
    def minimum(self) -> Minimum:
        if self.known is not None:
            return self.known
        minimum = at_minimum(Fitted(self.nll, self.fit, self.data))
        if self.kinks is not None:
            minimum = minimum._replace(space=minimum.space.with_kinks(self.kinks))
        return minimum

    @property
    def poi(self) -> Bool[Array, " n"]:
        """Marks the parameter of interest among the free parameters."""
        return xp.arange(self.fit.values.size) == self.position

    def at(self, mu: Scalar, near: Float[Array, " n"], skip: Bool[Array, ""], robust: bool) -> _ConditionalFit:
        minimum, poi = self.minimum, self.poi
        values = xp.where(poi, mu, near)
        directions = poi[None].astype(minimum.x.dtype)
        shift = conditional_shift(minimum.covariance, directions, values - near)
        start = minimum.space.clip(xp.where(poi, values, near + shift))
        refitted = refit(minimum, Hold(directions, values), xp.where(poi, values, start), skip, robust)
        q = 2 * (refitted.value - minimum.fn(minimum.x, minimum.theta))
        gradient = minimum.gradient(refitted.x)
        # a fit lower than the free one by more than rounding shows that the free one is not the minimum
        is_good = (refitted.status == int(Status.VALID)) & xp.isfinite(q) & (q > -1e-3) & minimum.valid
        return _ConditionalFit(xp.maximum(q, 0.0), 2 * xp.sum(poi * gradient), refitted.x, is_good)


class Sides(NamedTuple):
    """The sides of the data and of the Asimov data: one `LimitSide` with a leading axis, whose entries are lanes of one
    program, or two if the shapes of their data differ; or the side of the Asimov data alone."""

    sides: LimitSide | tuple[LimitSide, ...]

    def at(self, mu: Scalar, near: Float[Array, "k n"], skip: Bool[Array, " k"], robust: bool) -> _ConditionalFit:
        return self.each(lambda side, near, skip: side.at(mu, near, skip, robust), near, skip, together=not robust)

    def each(self, fn: Callable[..., Any], *args: PyTree, together: bool = True) -> Any:
        """Returns `fn(side, ...)` of all sides, with their parts of `args`, stacked along a leading axis. They run as
        lanes if `together`, else one after another, which compiles faster if `fn` has nested loops."""
        if isinstance(self.sides, LimitSide):
            side = self.sides
            of_lane = lambda fit, data, *args: fn(side._replace(fit=fit, data=data), *args)  # noqa: E731
            if together:
                return eqx.filter_vmap(of_lane)(side.fit, side.data, *args)
            arrays, static = eqx.partition((side.fit, side.data, *args), eqx.is_array)
            return lax.map(lambda lane: of_lane(*eqx.combine(lane, static)), arrays)
        results = [fn(side, *jax.tree.map(lambda a: a[k], args)) for k, side in enumerate(self.sides)]  # noqa: B023
        return jax.tree.map(lambda *a: xp.stack(a), *results)

    @property
    def asimov(self) -> "Sides":
        """The side of the Asimov data alone."""
        if not isinstance(self.sides, LimitSide):
            return Sides(self.sides[-1:])
        last_lane = lambda tree: jax.tree.map(lambda a: a[-1] if eqx.is_array(a) else a, tree)  # noqa: E731
        return Sides((self.sides._replace(fit=last_lane(self.sides.fit), data=last_lane(self.sides.data)),))


def sides_of(problem: LimitProblem) -> Sides:
    """Returns the sides of the data and of the Asimov data."""
    nll, data_fit, asimov_fit = problem.nll, problem.conditional.free, problem.asimov.free

    def side(fit: FitResult, data: PyTree) -> LimitSide:
        converted = Function(eqx.filter_closure_convert(nll, resolve(fit.params), data))
        kinks = kinks_of(nll, fit.params, ravel(fit.params)[1])
        return LimitSide(converted, fit, data, problem.index, kinks)

    both = _stacked((data_fit, problem.data), (asimov_fit, problem.asimov.data))
    if both is None:
        return Sides((side(data_fit, problem.data), side(asimov_fit, problem.asimov.data)))
    example = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, both)
    return Sides(side(*example)._replace(fit=both[0], data=both[1]))


def _stacked(a: PyTree, b: PyTree) -> PyTree:
    """Stacks two trees along a leading axis; returns `None` if their shapes differ."""
    (a, static), (b, other_static) = (eqx.partition(tree, eqx.is_array) for tree in (a, b))
    same_structure = jax.tree.structure(a) == jax.tree.structure(b) and eqx.tree_equal(static, other_static)
    if not same_structure or any(x.shape != y.shape for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)):
        return None
    dtype = lambda x, y: x.dtype if x.dtype == y.dtype else xp.result_type(float)  # noqa: E731
    return eqx.combine(jax.tree.map(lambda x, y: xp.stack([z.astype(dtype(x, y)) for z in (x, y)]), a, b), static)


class SidesOnHost(NamedTuple):
    """The sides of the data and of the Asimov data, in NumPy."""

    fitted: tuple[OnHost, OnHost]
    position: Int[np.ndarray, ""]  # of the parameter of interest
    repeats: Repeats

    def at(self) -> tuple[LimitSide, ...]:
        """The sides; call it on the host."""
        position: Any = self.position
        return tuple(
            LimitSide(_NOTHING, side.result, side.data, position, None, at_minimum(side)) for side in self.fitted
        )


_NOTHING = Function(lambda params, data: 0.0)


def sides_on_host(problem: LimitProblem, kind: Any) -> SidesOnHost | None:
    """The sides for a search on the host; `None` where it has to be a program."""
    if not is_for_host(problem):
        return None
    fits = (problem.conditional.free, problem.data), (problem.asimov.free, problem.asimov.data)
    sides = [evaluated(problem.nll, result, data, _GRADIENTS, kind) for result, data in fits]
    if sides[0] is None or sides[1] is None:
        return None
    (first, repeats), (second, _) = sides[0], sides[1]
    return SidesOnHost((first, second), np.asarray(problem.index), repeats)
