"""Counts in bins, each Poisson-distributed."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Scalar

from .._parameters.resolve import resolve
from .._util.poisson_draw import draw_poisson
from .._util.typing import PyTree
from . import counts as _counts
from .base import AbstractLikelihood
from .bins import checked_expectation, log_expected_of
from .counts import Counts, as_counts, resample_counts
from .spread import At, of_log_means, of_means


class PoissonNLL(AbstractLikelihood):
    """The likelihood of independent Poisson-distributed counts `n` with expectations `mu(params)`, as in a histogram.

    The value is minus the log of the likelihood relative to the saturated model,

        sum(mu - n + n log(n / mu)),

    which differs from -log L by a constant that depends only on the data. Twice its minimum is the Poisson deviance,
    which follows a chi2 distribution for large counts (S. Baker and R. D. Cousins, Nucl. Instrum. Meth. 221 (1984)
    437). The term of a bin vanishes where `mu = n`, so that no digits are lost to large constants.

    ```python
    def log_expected(params):
        peak = mx.distributions.Normal(params["mu"], params["sigma"])
        return jnp.log(params["amp"]) + peak.log_bin_integrals(edges)


    mx.fit(mx.PoissonNLL(log_expected=log_expected), params, counts)


    def model(p):  # a peak on a slope, as densities
        peak, slope = mx.distributions.Normal(p["mu"], p["sigma"]), mx.distributions.Exponential(p["rate"], 0.0, 10.0)
        return mx.distributions.Mixture([peak, slope], yields=[p["amp"], p["background"]])


    nll = mx.PoissonNLL(distribution=model, edges=edges)
    ```

    For a histogram of weighted events (`mx.Counts(value, variance)`) counts and expectations are scaled so that the
    counts have the variance of Poisson numbers (G. Bohm and G. Zech, Nucl. Instrum. Meth. A 748 (2014) 1); a bin whose
    weights add up to 0 or less has a Gaussian term.

    **Arguments:**

    - `expected`: `expected(params) -> mu`, an array of expected counts of any shape, or
    - `log_expected`: `log_expected(params) -> log(mu)`. Preferable where `mu` may be very small: a bin whose
        expectation underflows to 0 still has a gradient; or
    - `distribution`: `distribution(params)`, a distribution with a `total` (`mx.distributions.Mixture` with yields), or
        any other beside a `total`; and
    - `edges`: of the bins, shape `(n + 1,)`, or rows `(low, high)`, shape `(n, 2)`, for bins with gaps between them.
    - `total`: with a `distribution`, `total(params)`: the expected number of events on the whole range of the
        distribution, of which the bins may cover a part. Default: that of the distribution.
    - `mask`: `None`, or booleans of the shape of the counts: `True` for the bins that are used.

    The data are an array of counts of the shape of the expectation, or `mx.Counts` for weighted events.

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
        total: Callable[[Any], ArrayLike] | None = None,
    ):
        of_bins = log_expected_of(log_expected, distribution, edges, total, False, "PoissonNLL")
        self.expected, self.log_expected = checked_expectation(expected, of_bins, "PoissonNLL")
        self.mask = _counts.checked_mask(mask, "PoissonNLL")

    def __call__(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Scalar:
        """Minus the log of the likelihood of the counts `data`, which have the shape of the expectation.

        A bin with an expectation of 0 contributes 0 if it is empty, else infinity; a negative expectation gives NaN.
        """
        return jnp.sum(self.terms(params, data))

    def terms(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Float[Array, "*bins"]:
        """The terms of the likelihood, one per bin."""
        counts, params = as_counts(data, "PoissonNLL"), resolve(params)
        if self.log_expected is not None:
            log_mu = jnp.asarray(self.log_expected(params))
            _counts.check_shapes(log_mu, counts, self.mask)
            return _counts.terms_from_log(log_mu, counts, self.mask)
        assert self.expected is not None
        mu = jnp.asarray(self.expected(params))
        _counts.check_shapes(mu, counts, self.mask)
        return _counts.terms_from_mean(mu, counts, self.mask)

    def score_covariance(
        self, at: At, x: Float[Array, " n"], data: Float[Array, "*bins"] | Counts
    ) -> Float[Array, "n n"]:
        """J of the sandwich: the variances of the counts, or those of their weights."""
        counts = as_counts(data, "PoissonNLL")
        if self.expected is not None:
            expected = self.expected
            return of_means(lambda p: jnp.asarray(expected(resolve(p))), at, x, counts, self.mask)
        assert self.log_expected is not None
        log_expected = self.log_expected
        return of_log_means(lambda p: jnp.asarray(log_expected(resolve(p))), at, x, counts, self.mask)

    def deviance(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Scalar:
        """Twice the value, which is relative to the saturated model already."""
        return 2 * self(params, data)

    def prediction(self, params: PyTree, data: Any = None) -> Float[Array, "*bins"]:
        """The expected counts."""
        params = resolve(params)
        if self.log_expected is not None:
            return jnp.exp(self.log_expected(params))
        assert self.expected is not None
        return jnp.asarray(self.expected(params))

    def expected_data(self, params: PyTree, data: Any = None) -> Float[Array, "*bins"] | Counts:
        """The Asimov data: the expected counts. For weighted `data`, `mx.Counts` with the same mean weights."""
        return _counts.like(data if isinstance(data, Counts) else None, self.prediction(params), self.mask)

    def pulls(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Float[Array, "*bins"]:
        """(n - mu) / sqrt(mu), or over the square root of the variance of weighted counts; NaN in masked bins."""
        return _counts.count_pulls(self.prediction(params), as_counts(data, "PoissonNLL"), self.mask)

    def ndata(self, data: Float[Array, "*bins"] | Counts) -> int | Int[Array, ""]:
        """The number of unmasked bins."""
        return _counts.num_used(self.mask, as_counts(data, "PoissonNLL"))

    def faults(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> PyTree:
        """`Fault` codes of the bins in which the likelihood is infinite or NaN, for messages."""
        mu = self.prediction(params)
        zero = mu == 0 if self.log_expected is None else self.log_expected(resolve(params)) == -jnp.inf
        return _counts.count_faults(mu, zero, as_counts(data, "PoissonNLL"), self.mask)

    def resample(self, key: Array, data: Any) -> Array | Counts:
        """A bootstrap sample of the counts."""
        return resample_counts(key, data, "PoissonNLL")

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Float[Array, "*bins"]:
        """One set of counts drawn at `params`."""
        _counts.refuse_weighted(data if isinstance(data, Counts) else None, "PoissonNLL.sample")
        return draw_poisson(key, self.prediction(params))
