"""autoMCStats: the statistical errors of templates, as one parameter of each bin, or of each process in it.

(R. Barlow and C. Beeston, Comput. Phys. Commun. 77 (1993) 219; J. S. Conway, arXiv:1103.0354, for one parameter of a
bin, whose minimum is the root of a quadratic equation.)
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._util.table import Table

_LEAST = 1e-9  # the content to which the expectation of a bin is cropped


class McErrors(eqx.Module):
    """Of `c` channels of `n` bins.

    - `errors`: of the templates of each process, in the units of the templates.
    - `whole`: the bins with one parameter. `channels`: which channels have autoMCStats at all.
    - `scales`: of parameters of one process in one bin: the inverse of the events of one with a Poisson constraint, or
        the error for one with a normal constraint. `bins`: which, a number in row-major order. `at`: the positions of
        these parameters; `is_poisson`.
    """

    errors: Float[Array, "c s n"]
    scales: Float[Array, " m"]
    whole: Table = eqx.field(static=True)
    channels: Table = eqx.field(static=True)
    bins: Table = eqx.field(static=True)
    at: Table = eqx.field(static=True)
    is_poisson: Table = eqx.field(static=True)

    def moved(self, shapes: Float[Array, "c s n"], numbers: Float[Array, " k"]) -> Float[Array, "c s n"]:
        """The templates, moved by the parameters of single processes."""
        if self.at.array.size == 0:
            return shapes
        flat, scales = shapes.reshape(-1), self.scales.astype(shapes.dtype)
        theta, here = numbers[self.at.array], flat[self.bins.array]
        shifts = jnp.where(self.is_poisson.array, here * (theta * scales - 1), theta * scales)
        return flat.at[self.bins.array].add(shifts).reshape(shapes.shape)

    def spread(self, yields: Float[Array, "c s"]) -> Float[Array, "c n"]:
        """The standard deviation of each bin with one parameter; 0 in the others."""
        total = jnp.sum((self.errors.astype(yields.dtype) * yields[..., None]) ** 2, axis=1)
        is_whole = self.whole.array & (total > 0)
        return jnp.where(is_whole, jnp.sqrt(jnp.where(is_whole, total, 1.0)), 0.0)

    def cropped(self, expected: Float[Array, "c n"]) -> Float[Array, "c n"]:
        return jnp.where(self.channels.array[:, None], jnp.maximum(expected, _LEAST), expected)


def profiled(
    expected: Float[Array, "*n"], error: Float[Array, "*n"], measured: Float[Array, "*n"], counts: Float[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The expectation of each bin and its pull x at the minimum of the Poisson term of `expected + error x` and
    (x - measured)²/2; without an error, `expected` and `measured`."""
    has_error = error > 0
    safe = jnp.where(has_error, error, 1.0)
    b = safe * (safe - measured) - expected  # mu² + b mu - counts error² = 0
    product = 4 * counts * safe**2
    inside = b**2 + product
    root = jnp.where(inside > 0, jnp.sqrt(jnp.where(inside > 0, inside, 1.0)), 0.0)
    is_small = b > 0
    mu = jnp.where(is_small, 0.5 * product / jnp.where(is_small, b + root, 1.0), 0.5 * (root - b))
    mu = jnp.where(has_error, mu, expected)
    is_positive = mu > 0
    ratio = counts / jnp.where(is_positive, mu, 1.0)
    pull = jnp.where(is_positive, measured + safe * (ratio - 1), -expected / safe)
    return mu, jnp.where(has_error, pull, measured)


class BinParameter(NamedTuple):
    """A parameter of one process in one bin. `events`: of its Poisson constraint, or `None` for a normal one."""

    process: int
    bin: int
    events: float | None
    error: float


class BinErrors(NamedTuple):
    """Of one channel: which bins have one parameter, and the parameters of processes in the others."""

    whole: Bool[np.ndarray, " n"]
    single: list[BinParameter]


def bin_errors(
    contents: Float[np.ndarray, "s n"],
    errors: Float[np.ndarray, "s n"],
    yields: Float[np.ndarray, " s"],
    counts_for: Bool[np.ndarray, " s"],
    threshold: float,
) -> BinErrors:
    """Combine's rule (`CMSHistErrorPropagator::setupBinPars`): a bin of no more effective events than the threshold has
    a parameter for each process.

    `contents`, `errors`: of the templates; `yields`: what multiplies each of them at the start; `counts_for`: which
    processes count for the threshold."""
    contents = np.maximum(contents, _LEAST)
    scaled = yields[:, None] * np.stack([contents, errors])
    total = np.sum(scaled[0, counts_for], axis=0)
    spread = np.sqrt(np.sum(scaled[1, counts_for] ** 2, axis=0))
    whole, single = np.zeros(total.size, bool), []
    if threshold < 0:
        return BinErrors(whole, single)
    for j in np.flatnonzero(spread > 0):
        if np.floor(0.5 + (total[j] / spread[j]) ** 2) > threshold:
            whole[j] = True
            continue
        for i, (content, error) in enumerate(zip(contents[:, j], errors[:, j], strict=True)):
            if error <= 0:
                continue
            count = np.floor(0.5 + (content / error) ** 2)
            is_poisson = content >= 0.999 * error and count <= threshold
            single.append(BinParameter(i, int(j), float(count) if is_poisson else None, float(error)))
    return BinErrors(whole, single)


def no_errors(c: int, s: int, n: int) -> McErrors:
    """Of channels without autoMCStats."""
    nothing = Table(np.zeros(0, int))
    return McErrors(
        jnp.zeros((c, s, n)), jnp.zeros(0), Table(np.zeros((c, n), bool)), Table(np.zeros(c, bool)), nothing, nothing,
        Table(np.zeros(0, bool)),
    )  # fmt: skip
