"""J of the sandwich, the covariance of a likelihood's gradient (the score), from what is known about its data.

Data with known errors determine J by propagation of errors, without estimating the scatter of the gradients: with
independent data d_i of variance v_i and a likelihood nll(x, d),

    J = sum_i v_i g_i g_i^T,    g_i = d^2 nll / dx dd_i.

Counts have the variance n, or the sum of the squares of their weights; the residuals of points and of normal
measurements have the variance 1. In all other cases J is the second derivative of the likelihood, which equals J on
average (Bartlett's identity), or the sum of the squared slopes of the rows of events.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .._derivatives.one_mode import hessian, jacobian
from .._util.chunks import sum_over_chunks
from .._util.typing import PyTree
from . import counts as _counts
from .counts import Counts

At = Callable[[Float[Array, " n"]], PyTree]  # the parameters at a vector of the free ones

FEW = 10  # rows: so few squared slopes do not determine their spread
_MIN_EFFECTIVE_ROWS = 5.0  # of a parameter: the slopes of fewer vanish at the minimum, whatever their errors
_TOLERANCE = 1e-6  # relative to the gradient, for the rows to add up to the likelihood

FINE, NOT_A_SUM, TOO_FEW = 0, 1, 2


class Spread(NamedTuple):
    """J, and what is wrong with it: `FINE`, or for rows `NOT_A_SUM` or `TOO_FEW`."""

    matrix: Float[Array, "n n"]
    fault: Int[Array, ""]


def information(nll: Callable, at: At, x: Float[Array, " n"], data: PyTree) -> Float[Array, "n n"]:
    """The second derivative of the likelihood."""
    return hessian(lambda x: nll(at(x), data), x)


def of_events(terms: Callable, at: At, x: Float[Array, " n"], rows: PyTree, chunk_size: int | None) -> Array:
    """The sum of the squared slopes of the terms, in chunks of `chunk_size` rows."""

    def squares(chunk: PyTree, counted: Array) -> Array:
        scores = jacobian(lambda x: terms(at(x), chunk), x)
        scores = jnp.where(counted[:, None], scores, 0.0)
        return scores.T @ scores

    return sum_over_chunks(squares, rows, chunk_size)


def of_residuals(residuals: Callable, at: At, x: Float[Array, " n"], data: PyTree) -> Float[Array, "n n"]:
    """J of half the sum of squared residuals, each of variance 1."""
    slopes = jacobian(lambda x: jnp.ravel(residuals(at(x), data)), x)
    return slopes.T @ slopes


def of_means(
    mean: Callable[[PyTree], Array], at: At, x: Float[Array, " n"], counts: Counts, mask: ArrayLike | None = None
) -> Float[Array, "n n"]:
    """J of Poisson counts whose expectation is `mean(params)`."""
    mu = mean(at(x))
    used = mu != 0 if mask is None else (mu != 0) & jnp.asarray(mask)
    slopes = jacobian(lambda x: jnp.ravel(mean(at(x))), x)
    used, mu = jnp.ravel(used), jnp.ravel(mu)
    logs = jnp.where(used[:, None], slopes, 0.0) / jnp.where(used, mu, 1.0)[:, None]
    return of_log_slopes(logs, mu, counts, mask)


def of_log_means(
    log_mean: Callable[[PyTree], Array], at: At, x: Float[Array, " n"], counts: Counts, mask: ArrayLike | None = None
) -> Float[Array, "n n"]:
    """J of Poisson counts whose expectation has the log `log_mean(params)`."""
    slopes = jacobian(lambda x: jnp.ravel(log_mean(at(x))), x)
    return of_log_slopes(slopes, jnp.ravel(jnp.exp(log_mean(at(x)))), counts, mask)


def of_log_slopes(
    slopes: Float[Array, "bins n"],
    mu: Float[Array, " bins"],
    counts: Counts,
    mask: ArrayLike | None,
    shape_only: bool = False,
) -> Float[Array, "n n"]:
    """J of counts, from the slopes of the logs of the expectations.

    The term of a bin is s (mu - n log mu), with s = 1, or n over the variance for weighted counts, so that
    g = -s dlog(mu)/dx; if the weights of a bin add up to 0 or less it is (n - mu)^2 / (2 v), and g = -(dmu/dx) / v.
    `shape_only`: the expectations are scaled to the total of the counts, so that each depends on all counts.
    """
    n, mu = jnp.ravel(counts.value).astype(mu.dtype), jnp.ravel(mu)
    s, weight, variance = jnp.ones_like(mu), jnp.ones_like(mu), n
    if counts.variance is not None:
        variance = jnp.ravel(counts.variance).astype(mu.dtype)
        s, negative = (jnp.ravel(a) for a in _counts.scale(counts, mask))
        s = s.astype(mu.dtype)
        weight = jnp.where(negative, mu / jnp.where(variance > 0, variance, 1.0), s)
    inside = jnp.ones(mu.shape, bool) if mask is None else jnp.ravel(jnp.asarray(mask))
    used = inside & (variance > 0)
    g = jnp.where(used[:, None], weight[:, None] * slopes, 0.0)
    if shape_only and counts.variance is not None:
        # d^2 nll / dx dN for the total N, to which empty bins contribute; for equal weights it is 0
        expected = inside & (mu > 0)
        total_slopes = jnp.where(expected[:, None], (mu * weight)[:, None] * slopes, 0.0)
        g = g - jnp.sum(total_slopes, axis=0) / jnp.sum(jnp.where(inside, n, 0.0))
    return g.T @ (jnp.where(used, variance, 0.0)[:, None] * g)


def spread_of(
    part: Any, treated: str, at: At, x: Float[Array, " n"], aside: Float[Array, " n"], data: PyTree
) -> Spread:
    """J of any likelihood, by its `treatment`. `aside`: a point where the slopes of constraints do not vanish."""
    fine = jnp.array(FINE)
    if treated == "own":
        return Spread(part.score_covariance(at, x, data), fine)
    if treated == "terms":
        rows = None if part.rows is None else part.rows(data)
        if rows is not None:
            return Spread(of_events(part.terms, at, x, rows, part.chunk_size), fine)
        scores = jacobian(lambda x: jnp.ravel(part.terms(at(x), data)), x)
        return Spread(scores.T @ scores, fine)
    if treated == "information":
        return Spread(information(part, at, x, data), fine)

    def row_values(x: Array) -> Array:
        row_value = lambda row: part(at(x), jax.tree.map(lambda a: a[None], row))  # noqa: E731
        return jax.vmap(row_value)(data)

    row_slopes, gradient = jacobian(row_values, aside), jax.grad(lambda x: part(at(x), data))(aside)
    sizes = jnp.sum(jnp.abs(row_slopes), axis=0)
    difference = jnp.abs(jnp.sum(row_slopes, axis=0) - gradient)
    adds_up = ~jnp.any(difference > _TOLERANCE * (sizes + jnp.abs(gradient)))
    squares = jnp.sum(row_slopes**2, axis=0)
    enough_rows = ~jnp.any(sizes**2 < _MIN_EFFECTIVE_ROWS * squares) | bool(part.events)
    slopes = jacobian(row_values, x)
    fault = jnp.where(adds_up, jnp.where(enough_rows, FINE, TOO_FEW), NOT_A_SUM)
    return Spread(slopes.T @ slopes, fault)


def treatment(part: Any, data: PyTree, name: str) -> tuple[str, str | None]:
    """How J is computed: "own" (by the likelihood), "terms", "rows", or "information"; and a caveat, or `None`.

    **Arguments:**

    - `name`: that of the part of a joint likelihood, for messages; empty for a likelihood on its own.

    **Raises:** `ValueError` for a function whose data are not rows of one length.
    """
    if not part.is_plain:
        return "own", None
    if part.terms is not None:
        return "terms", None
    events = part.events
    if events is False:
        return "information", None
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(data)]
    same_length = bool(shapes) and all(len(s) > 0 and s[0] == shapes[0][0] for s in shapes)
    if same_length and (events or shapes[0][0] >= FEW):
        return "rows", None
    numbers = sum(int(np.prod(s)) for s in shapes)
    if not same_length and (not name or events or numbers >= FEW):
        of_part = f" of the part {name!r}" if name else ""
        raise ValueError(
            f"the sandwich{of_part} takes data that are arrays with one row an event, got shapes {shapes}: give the "
            "likelihood a method terms(params, data), or, where it is a measurement whose errors it knows, dress it as "
            "mx.Likelihood(nll, events=False)"
        )
    rows = "no rows of data" if not shapes or not same_length else f"{shapes[0][0]} rows of data"
    return "information", (
        f"{f'the part {name!r}' if name else 'the likelihood'} is a function of {rows}: in the robust covariance its "
        "second derivative stands for the spread of its slope. That is right for counts, and for a measurement whose "
        "errors it knows (say so by mx.Likelihood(nll, events=False)), and wrong for weighted events "
        "(mx.Likelihood(nll, events=True), with data of one row an event)"
    )
