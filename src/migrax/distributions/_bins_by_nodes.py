"""Probabilities of bins from the density at a few nodes of each, where these suffice.

The density of a bin that is narrow beside its features is integrated by 15 nodes of Kronrod, to rounding: the 7 of them
that are Gauss's tell whether it is (A. S. Kronrod, Nodes and Weights of Quadrature Formulas (1965); R. Piessens et al.,
QUADPACK (1983)). The others, such as a bin at a singularity, are integrated by the rules that hold for any interval,
which take some hundred evaluations; a branch of the program, so that no time is spent where there are none.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, ArrayLike, Bool, Float

from .._util.logs import log
from ._quadrature import column, log_sum

# on -1 to 1, from 0 on; every second one, from 0 on, is a node of Gauss's rule
_NODES = np.array([0.0, 0.20778495500789847, 0.4058451513773972, 0.5860872354676911, 0.7415311855993945,
                   0.8648644233597691, 0.9491079123427585, 0.9914553711208126])  # fmt: skip
_KRONROD = np.array([0.20948214108472782, 0.20443294007529889, 0.19035057806478542, 0.1690047266392679,
                     0.14065325971552592, 0.10479001032225019, 0.06309209262997856, 0.022935322010529224])  # fmt: skip
_GAUSS = np.array([0.4179591836734694, 0.3818300505051189, 0.27970539148927664, 0.1294849661688697])
_AT_ONCE = 4  # bins


def log_bins(
    log_prob: Callable[[Array], Array],
    log_integral: Callable[[Array, Array], Array],
    low: Float[Array, " n"],
    high: Float[Array, " n"],
    smooth: Bool[Array, " n"] | None = None,
    support: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf),
) -> Float[Array, " n"]:
    """The logs of the probabilities between `low` and `high`, which may be infinite.

    **Arguments:**

    - `log_prob`: the log of the density, elementwise.
    - `log_integral`: the log of the probability of any intervals.
    - `smooth`: the bins in which the density and its derivatives by the parameters are known to be analytic; nodes are
        for these. What the nodes do not see, such as a step beyond the last of them, has to be known.
    - `support`: the ends of the range outside of which the density is 0.
    """
    outside = (high <= support[0]) | (low >= support[1]) | (high <= low)
    usable = jnp.isfinite(low) & jnp.isfinite(high) & (low >= support[0]) & (high <= support[1]) & ~outside
    usable = usable if smooth is None else usable & smooth
    if not usable.shape == low.shape == jax.eval_shape(log_prob, low).shape:  # of parameters that are arrays
        return log_integral(low, high)
    logs, good = _by_nodes(log_prob, low, high, usable)
    logs, good = jnp.where(outside, -jnp.inf, logs), good | outside
    all_good = lambda good: _of_all_lanes(jnp.all(good))  # noqa: E731

    def some(_: None, bins: tuple[Array, Bool[Array, " m"], Array, Array]) -> tuple[None, Array]:
        logs, good, low, high = bins
        rest = jax.checkpoint(lambda a, b: log_integral(a, b))
        return None, jax.lax.cond(all_good(good), lambda: logs, lambda: jnp.where(good, logs, rest(low, high)))

    def by_parts() -> Array:
        n = low.shape[0]
        parts = -(-n // _AT_ONCE)
        # the last bin again, to fill the last part
        bins: Any = tuple(
            jnp.concatenate([x, jnp.broadcast_to(x[-1:], (parts * _AT_ONCE - n,))]).reshape(parts, _AT_ONCE)
            for x in (logs, good, low, high)
        )
        return jax.lax.scan(some, None, bins)[1].reshape(-1)[:n]

    return jax.lax.cond(all_good(good), lambda: logs, by_parts)


def without(points: Iterable[ArrayLike], low: Array, high: Array) -> Bool[Array, " n"]:
    """The bins that hold none of the points, at which the density has kinks or steps, and do not end there: the ends
    move with a step."""
    return functools.reduce(jnp.logical_and, [(p < low) | (p > high) for p in points], jnp.ones(low.shape, bool))


def away_from(points: Iterable[ArrayLike], low: Array, high: Array) -> Bool[Array, " n"]:
    """The bins at least half as far as they are wide from each of the points, at which the density or a derivative by a
    parameter is singular: there 15 nodes are exact to 1e-13."""
    half = 0.5 * (high - low)
    return without(points, low - half, high + half)


def _by_nodes(
    log_prob: Callable[[Array], Array], low: Array, high: Array, usable: Bool[Array, " n"]
) -> tuple[Array, Bool[Array, " n"]]:
    """The logs of the integrals, and which of them are right to rounding, or NaN as the density is."""
    nodes, kronrod = np.append(-_NODES[:0:-1], _NODES), np.append(_KRONROD[:0:-1], _KRONROD)
    gauss = np.zeros(15)
    gauss[1::2] = np.append(_GAUSS[:0:-1], _GAUSS)
    low, high = jnp.where(usable, low, 0.0), jnp.where(usable, high, 1.0)
    half = 0.5 * (high - low)
    # one that is not usable is replaced by one that is, as derivatives must be finite in all
    spare = jnp.argmax(usable)
    points = low + half * (1 + column(nodes, half))
    values = log_prob(jnp.where(usable, points, points[:, spare, None]))
    log_mean = log_sum(values + column(np.log(kronrod), half))
    fine, logs = jax.lax.stop_gradient((log_mean, values))
    possible = jnp.isfinite(fine)
    coarse = jnp.sum(column(gauss, half) * jnp.exp(logs - jnp.where(possible, fine, 0.0)), axis=0)
    # for a smooth density the error of Kronrod's rule is about the square of the difference
    close = jnp.abs(coarse - 1) < jnp.finfo(values.dtype).eps ** 0.75
    return log(half) + log_mean, usable & (jnp.any(jnp.isnan(logs), axis=0) | possible & close)


@custom_vmap
def _of_all_lanes(good: Array) -> Array:
    """Whether it holds in all lanes of a batch: one answer, so that a branch stays a branch under `vmap`. A part that
    one lane needs is integrated in all."""
    return good


@_of_all_lanes.def_vmap
def _(axis_size: int, batched: list[bool], good: Array) -> tuple[Array, bool]:
    return _of_all_lanes(jnp.all(good)), False
