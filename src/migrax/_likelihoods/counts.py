"""Counts in bins, including weighted ones, and the Poisson terms that two likelihoods share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._hints.calls import given, refuse_strangers
from .._util.logs import log
from .._util.poisson_draw import draw_poisson
from .._util.tracing import is_concrete
from .fault import Fault
from .poisson_terms import from_log, from_mean


class Counts(eqx.Module):
    """The contents of a histogram of weighted events: the sums of weights and of squared weights in each bin."""

    value: Float[Array, "*bins"]
    variance: Float[Array, "*bins"] | None

    def __init__(self, value: ArrayLike, variance: ArrayLike | None = None):
        """**Arguments:**

        - `value`: the sum of the weights in each bin, of any shape; may be negative.
        - `variance`: the sum of the squares of the weights in each bin, of the same shape. `None`: plain counts.

        **Raises:** `ValueError` for shapes that differ, or a variance that is negative, not finite, or 0 in a bin that
        is not empty.
        """
        if isinstance(value, tuple):
            raise TypeError("the contents of a histogram are one array, got a tuple: leave out the edges")
        refuse_strangers(value, "this is")
        self.value = floats(value)
        self.variance = None if variance is None else floats(variance).astype(self.value.dtype)
        if self.variance is None:
            return
        if self.variance.shape != self.value.shape:
            raise ValueError(f"the variance must have shape {self.value.shape}, got {self.variance.shape}")
        if is_concrete(self.value, self.variance):
            n, v = np.asarray(self.value), np.asarray(self.variance)
            # the variance of a bin whose content is unknown (blinded) is not checked
            is_invalid = ~(np.isfinite(v) & (v >= 0) & ((v > 0) | (n == 0))) & np.isfinite(n)
            if np.any(is_invalid):
                at = np.unravel_index(int(np.argmax(is_invalid)), is_invalid.shape)
                index = ", ".join(map(str, at))
                raise ValueError(
                    f"variance[{index}] is {v[at]} for a content of {n[at]}; it is the sum of the weights²"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


def floats(a: ArrayLike) -> Array:
    a = jnp.asarray(a)
    return a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(jnp.result_type(float))


def as_counts(data: Any, what: str) -> Counts:
    """**Raises:** `TypeError` unless `data` are `Counts` or one array."""
    if isinstance(data, Counts):
        return data
    if isinstance(data, tuple | list | dict) or data is None:
        edges = " (of counts and edges? leave out the edges)" if isinstance(data, tuple) else ""
        raise TypeError(f"{what} takes an array of counts as data, got {given(data)}{edges}")
    return Counts(data)


def check_mask(mask: ArrayLike | None, what: str) -> None:
    """**Raises:** `TypeError` unless the mask is boolean."""
    if mask is not None and jnp.asarray(mask).dtype != bool:
        raise TypeError(f"the mask of {what} must hold booleans (True: the bin counts), got {jnp.asarray(mask).dtype}")


def checked_mask(mask: ArrayLike | None, what: str) -> Bool[Array, "*bins"] | None:
    """The mask as an array. **Raises:** `TypeError` unless it is boolean."""
    check_mask(mask, what)
    return None if mask is None else jnp.asarray(mask)


def check_shapes(mu: Array, counts: Counts, mask: ArrayLike | None) -> None:
    """**Raises:** `ValueError` unless the shapes are the same."""
    if mu.shape != counts.shape:
        raise ValueError(f"the expected counts have shape {mu.shape}, the data {counts.shape}; they must be the same")
    check_mask_shape(mask, counts)


def check_mask_shape(mask: ArrayLike | None, counts: Counts) -> None:
    """**Raises:** `ValueError` unless the mask has the shape of the counts."""
    if mask is not None and jnp.shape(mask) != counts.shape:
        raise ValueError(f"the mask has shape {jnp.shape(mask)}, the data {counts.shape}; they must be the same")


def num_used(mask: ArrayLike | None, counts: Counts) -> int | Int[Array, ""]:
    """The number of unmasked bins."""
    return int(np.prod(counts.shape)) if mask is None else jnp.sum(jnp.asarray(mask))


def scale(counts: Counts, mask: ArrayLike | None) -> tuple[Array, Bool[Array, "*bins"]]:
    """The inverse of the mean weight of the events in each bin, and whether their sum is not positive.

    Scaled by it, weighted counts have the mean and variance of Poisson numbers (G. Bohm and G. Zech, Nucl. Instrum.
    Meth. A 748 (2014) 1). An empty bin, whose scale is unknown, takes the median of the other unmasked bins.
    """
    n, variance = counts.value, counts.variance
    assert variance is not None
    known, positive = variance > 0, (variance > 0) & (n > 0)
    s = jnp.where(positive, jnp.where(positive, n, 1.0) / jnp.where(positive, variance, 1.0), jnp.nan)
    median = jnp.nanmedian(s if mask is None else jnp.where(mask, s, jnp.nan))
    return jnp.where(known, jnp.where(positive, s, 1.0), jnp.where(jnp.isnan(median), 1.0, median)), known & ~positive


def like(counts: Counts | None, mu: Array, mask: ArrayLike | None) -> Array | Counts:
    """The Asimov data: the expectation, with the ratio of variance to content of the weighted counts."""
    if counts is None or counts.variance is None:
        return mu
    return Counts(mu, jnp.abs(mu) / scale(counts, mask)[0].astype(mu.dtype))


def terms_from_mean(mu: Array, counts: Counts, mask: ArrayLike | None) -> Float[Array, "*bins"]:
    """Minus the log of the Poisson likelihood relative to the saturated model, per bin."""
    n = counts.value.astype(mu.dtype)
    mu = mu if mask is None else jnp.where(mask, mu, 1.0)
    if counts.variance is None:
        out = from_mean(mu, n)
    else:
        s, negative = scale(counts, mask)
        out = jnp.where(negative, _gaussian(mu, counts), from_mean(s * mu, jnp.where(negative, 1.0, s * n)))
    return out if mask is None else jnp.where(mask, out, 0.0)


def terms_from_log(log_mu: Array, counts: Counts, mask: ArrayLike | None) -> Float[Array, "*bins"]:
    """The same from the log of the expectation, where the expectation itself may underflow."""
    n = counts.value.astype(log_mu.dtype)
    log_mu = log_mu if mask is None else jnp.where(mask, log_mu, 0.0)
    if counts.variance is None:
        out = from_log(log_mu, n)
    else:
        s, negative = scale(counts, mask)
        positive = from_log(log_mu + log(s), jnp.where(negative, 1.0, s * n))
        out = jnp.where(negative, _gaussian(jnp.exp(log_mu), counts), positive)
    return out if mask is None else jnp.where(mask, out, 0.0)


def _gaussian(mu: Array, counts: Counts) -> Array:
    """The Gaussian term of a bin whose weights add up to 0 or less, which a Poisson number cannot be."""
    assert counts.variance is not None
    return 0.5 * (counts.value - mu) ** 2 / jnp.where(counts.variance > 0, counts.variance, 1.0)


def count_faults(mu: Array, zero: Array, counts: Counts, mask: ArrayLike | None) -> Any:
    """`Fault` codes for the arrays of the counts. `zero`: where the expectation is exactly 0, not just small."""
    n = counts.value
    code = jnp.where((n > 0) & zero, int(Fault.EXPECTED_ZERO), int(Fault.NONE))
    code = jnp.where(jnp.isfinite(mu), code, int(Fault.EXPECTED_NOT_FINITE))
    code = jnp.where(mu < 0, int(Fault.EXPECTED_NEGATIVE), code)
    if counts.variance is None:
        code = jnp.where(n < 0, int(Fault.NEGATIVE), code)
    code = jnp.where(True if mask is None else jnp.asarray(mask), code, int(Fault.NONE))
    no_faults = jax.tree.map(lambda a: jnp.zeros(a.shape, code.dtype), counts)
    return eqx.tree_at(lambda c: c.value, no_faults, code)


def count_pulls(mu: Array, counts: Counts, mask: ArrayLike | None) -> Float[Array, "*bins"]:
    """(n - mu) / standard deviation, from the expectation or from the weights; NaN in masked bins."""
    variance = mu if counts.variance is None else counts.variance
    is_used = (variance > 0) if mask is None else (variance > 0) & jnp.asarray(mask)
    return jnp.where(is_used, (counts.value - mu) / jnp.sqrt(jnp.where(is_used, variance, 1.0)), jnp.nan)


def refuse_weighted(counts: Counts | None, what: str) -> None:
    """**Raises:** `TypeError` for weighted counts, as no model describes their weights."""
    if counts is not None and counts.variance is not None:
        raise TypeError(
            f"{what} does not know how the weights of a weighted histogram fluctuate: draw the events again (bootstrap)"
        )


def resample_counts(key: Array, data: Any, who: str) -> Array | Counts:
    """A bootstrap sample with a Poisson number of events per bin; weighted events have the mean weight of their bin."""
    counts = as_counts(data, who)
    if counts.variance is None:
        return draw_poisson(key, counts.value)
    empty = counts.value == 0
    weight = jnp.where(empty, 0.0, counts.variance / jnp.where(empty, 1.0, counts.value))
    known = weight != 0
    number = jnp.where(known, counts.value / jnp.where(known, weight, 1.0), 0.0)
    drawn = draw_poisson(key, number)
    # an empty bin keeps its variance, which records the size of the weights near it
    return Counts(weight * drawn, jnp.where(known, weight**2 * drawn, counts.variance))
