"""Asimov data without bins: points with the numbers of events that are expected at them.

The points and numbers are a rule of numerical integration (Gauss-Legendre panels between quantiles), so that the sum of
any smooth function over these events is its expectation: the slope of the likelihood is 0 at the parameters that they
are made with, and its second derivatives are the Fisher information.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..distributions import Mixture, Poisson, Product, Truncated, _foreign
from ..distributions._interval import quantiles
from ..distributions._panels import gauss, grid
from .events import Events


class _Rule(NamedTuple):
    nodes: int  # in a panel
    halvings: int  # of the probability beyond an edge, outwards from `middle`
    middle: int  # panels of equal probability


_IN_ONE = _Rule(nodes=8, halvings=44, middle=32)
_IN_TWO = _Rule(nodes=5, halvings=16, middle=8)


def expected_events(d: Any, total: Array) -> Events:
    """`total` events of the distribution `d`, of one observable or two.

    The numbers can be differentiated in the parameters of `d`; the points do not move.

    **Raises:** `TypeError` for a distribution of counts, of more than two observables, or one that does not know the
    probability in an interval (`log_integral`).
    """
    shape = _foreign.event_shape(d)
    if shape not in ((), (1,), (2,)):
        raise TypeError(
            f"unbinned Asimov data are of one or two observables, got events of shape {shape}: use a histogram "
            "(mx.PoissonNLL), or draw a large sample (mx.sample)"
        )
    rule = _IN_TWO if shape == (2,) else _IN_ONE
    edges = [jnp.sort(lax.stop_gradient(axis)) for axis in _edges(d, rule)]
    x, widths = grid(edges, gauss(rule.nodes))
    x = x[:, None] if shape == (1,) else x
    empty = widths.ravel() == 0  # the same quantile twice
    log_density = jnp.where(empty, -jnp.inf, d.log_prob(x))
    weight = jnp.where(empty, 0.0, widths.ravel() * jnp.exp(log_density))
    nothing = total == 0  # is expected, and a mixture without yields has no shape
    shares = jnp.where(nothing, 0.0, weight / jnp.where(nothing, 1.0, jnp.sum(weight)))
    return Events(x, total * shares, expected=True)


def _edges(d: Any, rule: _Rule) -> list[Float[Array, " edges"]]:
    """For each observable the edges of panels: quantiles, those of each component of a mixture."""
    if isinstance(d, Product):
        return [axis for factor in d.distributions for axis in _edges(factor, rule)]
    if isinstance(d, Mixture):
        each = [_edges(component, rule) for component in d.components]
        return [jnp.concatenate(axes) for axes in zip(*each, strict=True)]
    if isinstance(d, Poisson):
        raise TypeError("unbinned Asimov data are of continuous observables, got a Poisson distribution of counts")
    if _foreign.event_shape(d):
        raise TypeError(
            f"unbinned Asimov data of two observables are those of mx.distributions.Product, got {type(d).__name__}"
        )
    log_integral = lambda low, high: _foreign.log_integral(d, low, high, "the distribution")  # noqa: E731
    tails = np.concatenate([0.5 ** np.arange(rule.halvings, 0, -1), np.arange(1, rule.middle // 2 + 1)]) / rule.middle
    below = np.arange(2 * tails.size - 1) < tails.size  # the middle is in once
    log_tails = np.log(np.concatenate([tails, tails[-2::-1]]))
    found = quantiles(log_integral, -jnp.inf, jnp.inf, jnp.asarray(log_tails), jnp.asarray(below))
    ends = [jnp.ravel(jnp.asarray(end, found.dtype)) for gap in _gaps(d) for end in gap]  # steps of the density
    return [jnp.concatenate([found, *ends]) if ends else found]


def _gaps(d: Any) -> tuple[Any, ...]:
    """The gaps between the ranges of a truncated distribution, those of what it truncates included."""
    if not isinstance(d, Truncated):
        return ()
    inner = d.base.components if isinstance(d.base, Mixture) else (d.base,)
    return (*d.gaps, *(gap for part in inner for gap in _gaps(part)))
