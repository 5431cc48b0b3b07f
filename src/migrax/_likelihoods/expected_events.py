"""Asimov data without bins: points with the numbers of events that are expected at them.

The points and numbers are a quadrature rule (Gauss-Legendre panels between quantiles), so that the sum of any smooth
function over these events is its expectation: the gradient of the likelihood is 0 at the parameters that generated
them, and its second derivatives are the Fisher information.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._util.unavailable import Unavailable
from ..distributions import Mixture, Poisson, Product, Truncated, _foreign
from ..distributions._interval import quantiles
from ..distributions._panels import gauss, grid
from .events import Events


class _Rule(NamedTuple):
    nodes: int  # per panel
    halvings: int  # of the tail probability, outwards from `middle`
    middle: int  # panels of equal probability


_RULE_1D = _Rule(nodes=8, halvings=44, middle=32)
_RULE_2D = _Rule(nodes=5, halvings=16, middle=8)


def expected_events(d: Any, total: Array) -> Events:
    """`total` events of the distribution `d`, of one observable or two.

    The numbers are differentiable in the parameters of `d`; the points do not move.

    **Raises:** `TypeError` for a distribution of counts, of more than two observables, or one that does not provide the
    probability in an interval (`log_integral`).
    """
    shape = _foreign.event_shape(d)
    if shape not in ((), (1,), (2,)):
        raise Unavailable(
            f"unbinned Asimov data are of one or two observables, got events of shape {shape}: use a histogram "
            "(mx.PoissonNLL), or draw a large sample (mx.sample)"
        )
    rule = _RULE_2D if shape == (2,) else _RULE_1D
    edges = [jnp.sort(lax.stop_gradient(axis)) for axis in _edges(d, rule)]
    x, widths = grid(edges, gauss(rule.nodes))
    x = x[:, None] if shape == (1,) else x
    empty = widths.ravel() == 0  # two equal quantiles
    log_density = jnp.where(empty, -jnp.inf, d.log_prob(x))
    weight = jnp.where(empty, 0.0, widths.ravel() * jnp.exp(log_density))
    no_events = total == 0  # a mixture without yields has no shape
    shares = jnp.where(no_events, 0.0, weight / jnp.where(no_events, 1.0, jnp.sum(weight)))
    return Events(x, total * shares, expected=True)


def _edges(d: Any, rule: _Rule) -> list[Float[Array, " edges"]]:
    """The edges of the panels of each observable: quantiles, for a mixture those of each component."""
    if isinstance(d, Product):
        return [axis for factor in d.distributions for axis in _edges(factor, rule)]
    if isinstance(d, Mixture):
        component_edges = [_edges(component, rule) for component in d.components]
        return [jnp.concatenate(axes) for axes in zip(*component_edges, strict=True)]
    if isinstance(d, Poisson):
        raise Unavailable("unbinned Asimov data are of continuous observables, got a Poisson distribution of counts")
    if _foreign.event_shape(d):
        raise Unavailable(
            f"unbinned Asimov data of two observables are those of mx.distributions.Product, got {type(d).__name__}"
        )
    log_integral = lambda low, high: _foreign.log_integral(d, low, high, "the distribution")  # noqa: E731
    tails = np.concatenate([0.5 ** np.arange(rule.halvings, 0, -1), np.arange(1, rule.middle // 2 + 1)]) / rule.middle
    below = np.arange(2 * tails.size - 1) < tails.size  # the middle appears once
    log_tails = np.log(np.concatenate([tails, tails[-2::-1]]))
    edges = quantiles(log_integral, -jnp.inf, jnp.inf, jnp.asarray(log_tails), jnp.asarray(below))
    ends = [jnp.ravel(jnp.asarray(end, edges.dtype)) for gap in _gaps(d) for end in gap]  # steps of the density
    return [jnp.concatenate([edges, *ends]) if ends else edges]


def _gaps(d: Any) -> tuple[Any, ...]:
    """The gaps between the ranges of a truncated distribution, including those of its base."""
    if not isinstance(d, Truncated):
        return ()
    inner = d.base.components if isinstance(d.base, Mixture) else (d.base,)
    return (*d.gaps, *(gap for part in inner for gap in _gaps(part)))
