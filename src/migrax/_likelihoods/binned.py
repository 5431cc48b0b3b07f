"""Counts in bins whose total is given: the shape alone, multinomial."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Scalar

from .._derivatives.one_mode import jacobian
from .._parameters.resolve import resolve
from .._util.logs import log
from .._util.typing import PyTree
from .._util.unavailable import Unavailable
from ..distributions._quadrature import log_sum
from . import counts as _counts
from .base import AbstractLikelihood
from .bins import checked_expectation, log_expected_of
from .counts import Counts, as_counts, resample_counts
from .spread import At, of_log_slopes


class BinnedNLL(AbstractLikelihood):
    """The multinomial likelihood of counts `n` of `N` events in bins with the probabilities `p = mu(params) / sum(mu)`.

    Only the shape of the expectation matters. The value is minus the log of the likelihood relative to the saturated
    model,

        sum(n log(n / (N p))),

    twice the minimum of which follows a chi2 distribution for large counts (S. Baker and R. D. Cousins, Nucl. Instrum.
    Meth. 221 (1984) 437). For a histogram of weighted events see `mx.PoissonNLL`.

    ```python
    edges = jnp.linspace(-3.0, 3.0, 51)
    shape = mx.BinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], p["sigma"]), edges=edges)
    ```

    **Arguments:**

    - `expected`: `expected(params) -> mu`, an array proportional to the probabilities of the bins, of any shape, or
    - `log_expected`: `log_expected(params) -> log(mu)`. Preferable where a probability may be very small; or
    - `distribution`: `distribution(params)`, any distribution, and
    - `edges`: of the bins, shape `(n + 1,)`, or rows `(low, high)`, shape `(n, 2)`, for bins with gaps between them.
    - `mask`: `None`, or booleans of the shape of the counts: `True` for the bins that are used. `N` and the
        normalisation of the probabilities then refer to these bins only.

    The data are an array of counts, or `mx.Counts` for weighted events.

    **Raises:** `TypeError` unless exactly one of `expected`, `log_expected` and `distribution` (with `edges`) is given,
    and can be called with the parameters alone; `ValueError` for edges that do not increase.
    """

    expected: Callable[[Any], Array] | None
    log_expected: Callable[[Any], Array] | None
    mask: Bool[Array, "*bins"] | None

    def __init__(
        self,
        expected: Callable[[Any], Array] | None = None,
        log_expected: Callable[[Any], Array] | None = None,
        *,
        mask: ArrayLike | None = None,
        distribution: Callable[[Any], Any] | None = None,
        edges: ArrayLike | None = None,
    ):
        of_bins = log_expected_of(log_expected, distribution, edges, None, True, "BinnedNLL")
        self.expected, self.log_expected = checked_expectation(expected, of_bins, "BinnedNLL")
        self.mask = _counts.checked_mask(mask, "BinnedNLL")

    def __call__(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Scalar:
        """Minus the log of the likelihood of the counts `data`, which have the shape of the expectation."""
        return jnp.sum(self.terms(params, data))

    def terms(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Float[Array, "*bins"]:
        """The terms of the likelihood, one per bin: those of `mx.PoissonNLL` scaled to the total of the data."""
        counts = as_counts(data, "BinnedNLL")
        total = self._total(counts)
        safe_total = jnp.where(total > 0, total, 1.0)
        if self.log_expected is not None:
            log_p = self._log_probabilities(params, counts)
            out = _counts.terms_from_log(log_p + log(safe_total).astype(log_p.dtype), counts, self.mask)
        else:
            # a probability of 0 has a derivative, but its log does not
            mu = self._expected(params, counts)
            used = mu if self.mask is None else jnp.where(self.mask, mu, 0.0)
            norm = jnp.sum(used)
            scale = safe_total.astype(mu.dtype) / jnp.where(norm == 0, 1.0, norm)
            out = _counts.terms_from_mean(mu * scale, counts, self.mask)
        return jnp.where(total > 0, out, jnp.where(total == 0, 0.0, jnp.nan))

    def _expected(self, params: PyTree, counts: Counts | None) -> Float[Array, "*bins"]:
        assert self.expected is not None
        mu = jnp.asarray(self.expected(resolve(params)))
        if counts is not None:
            _counts.check_shapes(mu, counts, self.mask)
        return mu

    def _log_probabilities(self, params: PyTree, counts: Counts | None) -> Float[Array, "*bins"]:
        """log p. The normalisation includes unmasked bins only."""
        if self.log_expected is not None:
            log_mu = jnp.asarray(self.log_expected(resolve(params)))
            if counts is not None:
                _counts.check_shapes(log_mu, counts, self.mask)
        else:
            mu = self._expected(params, counts)
            zero = mu == 0
            log_mu = jnp.where(zero, -jnp.inf, log(jnp.where(zero, 1.0, mu)))
        used = log_mu if self.mask is None else jnp.where(self.mask, log_mu, -jnp.inf)
        total = log_sum(jnp.ravel(used))
        none_expected = jnp.isneginf(total)
        return jnp.where(none_expected, -jnp.inf, log_mu - jnp.where(none_expected, 0.0, total))

    def _total(self, counts: Counts) -> Scalar:
        _counts.check_mask_shape(self.mask, counts)
        n = counts.value
        return jnp.sum(n if self.mask is None else jnp.where(self.mask, n, 0.0))

    def score_covariance(
        self, at: At, x: Float[Array, " n"], data: Float[Array, "*bins"] | Counts
    ) -> Float[Array, "n n"]:
        """J of the sandwich: the variances of the counts, or those of their weights."""
        counts = as_counts(data, "BinnedNLL")
        slopes = jacobian(lambda x: jnp.ravel(self._log_probabilities(at(x), counts)), x)
        return of_log_slopes(slopes, self.prediction(at(x), counts), counts, self.mask, shape_only=True)

    def deviance(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Scalar:
        """Twice the value, which is relative to the saturated model already."""
        return 2 * self(params, data)

    def prediction(self, params: PyTree, data: Float[Array, "*bins"] | Counts | None = None) -> Float[Array, "*bins"]:
        """The probabilities of the bins; with `data`, the expected counts for the same total."""
        counts = None if data is None else as_counts(data, "BinnedNLL")
        p = jnp.exp(self._log_probabilities(params, counts))
        return p if counts is None else self._total(counts) * p

    def expected_data(
        self, params: PyTree, data: Float[Array, "*bins"] | Counts | None = None
    ) -> Float[Array, "*bins"] | Counts:
        """The Asimov data: the probabilities times the total of `data`. For weighted `data`, `mx.Counts` with the same
        mean weights."""
        mu = self.prediction(params, _with_total(data, "mx.asimov of BinnedNLL"))
        return _counts.like(data if isinstance(data, Counts) else None, mu, self.mask)

    def resample(self, key: Array, data: Any) -> Array | Counts:
        """A bootstrap sample of the counts."""
        return resample_counts(key, data, "BinnedNLL")

    def sample(
        self, params: PyTree, key: Array, data: Float[Array, "*bins"] | Counts | None = None
    ) -> Float[Array, "*bins"]:
        """One set of counts drawn at `params`, with the total of `data`. Masked bins are 0."""
        counts = as_counts(_with_total(data, "mx.sample of BinnedNLL"), "BinnedNLL.sample")
        _counts.refuse_weighted(counts, "BinnedNLL.sample")
        p = self.prediction(params)
        p = p if self.mask is None else jnp.where(self.mask, p, 0.0)
        drawn = jax.random.multinomial(key, self._total(counts), jnp.ravel(p))
        return drawn.reshape(p.shape).astype(p.dtype)

    def pulls(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Float[Array, "*bins"]:
        """(n - N p) / sqrt(N p), or over the square root of the variance of weighted counts; NaN in masked bins."""
        counts = as_counts(data, "BinnedNLL")
        return _counts.count_pulls(self.prediction(params, counts), counts, self.mask)

    def ndata(self, data: Float[Array, "*bins"] | Counts) -> int | Int[Array, ""]:
        """The number of unmasked bins less one, as the total is given."""
        return _counts.num_used(self.mask, as_counts(data, "BinnedNLL")) - 1

    def faults(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> PyTree:
        """`Fault` codes of the bins in which the likelihood is infinite or NaN, for messages."""
        counts = as_counts(data, "BinnedNLL")
        if self.log_expected is not None:
            log_mu = self.log_expected(resolve(params))
            return _counts.count_faults(jnp.exp(log_mu), jnp.isneginf(log_mu), counts, self.mask)
        mu = self._expected(params, counts)
        return _counts.count_faults(mu, mu == 0, counts, self.mask)


def _with_total(data: Any, what: str) -> Any:
    if data is None:
        raise Unavailable(f"{what} needs data, whose total it takes: give it data=counts")
    return data
