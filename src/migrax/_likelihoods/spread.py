"""J of the sandwich, the covariance of a likelihood's slope (the score), from what is known of its data.

Data whose errors are known tell J without a look at how far the slopes are spread, by propagation of errors: with
independent data d_i of variance v_i and a likelihood nll(x, d),

    J = sum_i v_i g_i g_i^T,    g_i = d^2 nll / dx dd_i.

Counts have the variance n, or the sum of the squares of their weights; the residuals of points and of normal
measurements have the variance 1. What is left is the likelihood's own second derivative, which is J on average
(Bartlett's identity), and the rows of events, whose squared slopes add up to J.
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

FEW = 10  # rows: the squares of so few slopes say nothing of their spread
_ALONE = 5.0  # rows: where fewer decide a parameter, their slopes vanish at the minimum, whatever their errors
_TOLERANCE = 1e-6  # relative, of the gradient: that the rows add up to the likelihood

FINE, NOT_A_SUM, TOO_FEW = 0, 1, 2


class Spread(NamedTuple):
    """J, and what is wrong with it: `FINE`, or `NOT_A_SUM` or `TOO_FEW` of rows."""

    matrix: Float[Array, "n n"]
    fault: Int[Array, ""]


def information(nll: Callable, at: At, x: Float[Array, " n"], data: PyTree) -> Float[Array, "n n"]:
    """The second derivative of the likelihood."""
    return hessian(lambda x: nll(at(x), data), x)


def of_events(terms: Callable, at: At, x: Float[Array, " n"], rows: PyTree, chunk_size: int | None) -> Array:
    """The sum of the squares of the slopes of terms, as many rows of them at a time as the likelihood takes."""

    def squares(chunk: PyTree, counted: Array) -> Array:
        scores = jacobian(lambda x: terms(at(x), chunk), x)
        scores = jnp.where(counted[:, None], scores, 0.0)
        return scores.T @ scores

    return sum_over_chunks(squares, rows, chunk_size)


def of_residuals(residuals: Callable, at: At, x: Float[Array, " n"], data: PyTree) -> Float[Array, "n n"]:
    """Of half the sum of the squares of residuals, each of which has the variance 1."""
    slopes = jacobian(lambda x: jnp.ravel(residuals(at(x), data)), x)
    return slopes.T @ slopes


def of_means(
    mean: Callable[[PyTree], Array], at: At, x: Float[Array, " n"], counts: Counts, mask: ArrayLike | None = None
) -> Float[Array, "n n"]:
    """Of Poisson counts whose expectation is `mean(params)`."""
    mu = mean(at(x))
    used = mu != 0 if mask is None else (mu != 0) & jnp.asarray(mask)
    slopes = jacobian(lambda x: jnp.ravel(mean(at(x))), x)
    used, mu = jnp.ravel(used), jnp.ravel(mu)
    logs = jnp.where(used[:, None], slopes, 0.0) / jnp.where(used, mu, 1.0)[:, None]
    return of_log_slopes(logs, mu, counts, mask)


def of_log_means(
    log_mean: Callable[[PyTree], Array], at: At, x: Float[Array, " n"], counts: Counts, mask: ArrayLike | None = None
) -> Float[Array, "n n"]:
    """Of Poisson counts, where the log of the expectation is `log_mean(params)`."""
    slopes = jacobian(lambda x: jnp.ravel(log_mean(at(x))), x)
    return of_log_slopes(slopes, jnp.ravel(jnp.exp(log_mean(at(x)))), counts, mask)


def of_log_slopes(
    slopes: Float[Array, "bins n"],
    mu: Float[Array, " bins"],
    counts: Counts,
    mask: ArrayLike | None,
    shape_only: bool = False,
) -> Float[Array, "n n"]:
    """From the slopes of the logs of the expectations.

    The term of a bin is s (mu - n log mu), with s = 1, or for weighted counts n over the variance, so that
    g = -s dlog(mu)/dx; of a bin whose weights add up to 0 or less it is (n - mu)^2 / (2 v), and g = -(dmu/dx) / v.
    `shape_only`: the expectations are scaled to the total of the counts, which moves all of them.
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
        # d^2 nll / dx dN of the total N, to which empty bins belong; with equal weights that is 0
        expected = inside & (mu > 0)
        moved = jnp.where(expected[:, None], (mu * weight)[:, None] * slopes, 0.0)
        g = g - jnp.sum(moved, axis=0) / jnp.sum(jnp.where(inside, n, 0.0))
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

    def each(x: Array) -> Array:
        one = lambda row: part(at(x), jax.tree.map(lambda a: a[None], row))  # noqa: E731
        return jax.vmap(one)(data)

    there, whole = jacobian(each, aside), jax.grad(lambda x: part(at(x), data))(aside)
    sizes = jnp.sum(jnp.abs(there), axis=0)
    off = jnp.abs(jnp.sum(there, axis=0) - whole)
    adds_up = ~jnp.any(off > _TOLERANCE * (sizes + jnp.abs(whole)))
    squares = jnp.sum(there**2, axis=0)
    many = ~jnp.any(sizes**2 < _ALONE * squares) | bool(part.events)
    slopes = jacobian(each, x)
    fault = jnp.where(adds_up, jnp.where(many, FINE, TOO_FEW), NOT_A_SUM)
    return Spread(slopes.T @ slopes, fault)


def treatment(part: Any, data: PyTree, name: str) -> tuple[str, str | None]:
    """How J is had: "own" (the likelihood says), "terms", "rows", or "information"; and what is not sure about it.

    **Arguments:**

    - `name`: of the part of a joint likelihood, for messages; empty where it stands alone.

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
    alike = bool(shapes) and all(len(s) > 0 and s[0] == shapes[0][0] for s in shapes)
    if alike and (events or shapes[0][0] >= FEW):
        return "rows", None
    numbers = sum(int(np.prod(s)) for s in shapes)
    if not alike and (not name or events or numbers >= FEW):
        where = f" of the part {name!r}" if name else ""
        raise ValueError(
            f"the sandwich{where} takes data that are arrays with one row an event, got shapes {shapes}: give the "
            "likelihood a method terms(params, data), or, where it is a measurement whose errors it knows, dress it as "
            "mx.Likelihood(nll, events=False)"
        )
    rows = "no rows of data" if not shapes or not alike else f"{shapes[0][0]} rows of data"
    return "information", (
        f"{f'the part {name!r}' if name else 'the likelihood'} is a function of {rows}: in the robust covariance its "
        "second derivative stands for the spread of its slope. That is right for counts, and for a measurement whose "
        "errors it knows (say so by mx.Likelihood(nll, events=False)), and wrong for weighted events "
        "(mx.Likelihood(nll, events=True), with data of one row an event)"
    )
