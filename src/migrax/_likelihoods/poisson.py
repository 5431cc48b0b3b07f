"""Counts in bins, each Poisson-distributed."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, Scalar

from .._faults import Fault
from .._hints import check_callable
from .._parameter import resolve


class PoissonNLL(eqx.Module):
    """Counts `n` with expectations `mu(params)`, each Poisson-distributed: a histogram whose total is free.

    Its value is minus the log of the likelihood relative to the saturated model,

        sum(mu - n + n log(n / mu)),

    which differs from -log L by a constant of the data alone. Twice its minimum is the Poisson deviance, which
    follows a chi2 distribution for large counts (S. Baker and R. D. Cousins, Nucl. Instrum. Meth. 221 (1984) 437).
    Each bin's term vanishes where `mu = n`: no large number is added and lost in rounding.

    ```python
    def log_expected(params):
        peak = mx.distributions.Normal(params["mu"], params["sigma"])
        return jnp.log(params["amp"]) + peak.log_bin_integrals(edges)


    mx.fit(mx.PoissonNLL(log_expected=log_expected), params, counts)
    ```

    **Arguments:**

    - `expected`: `expected(params) -> mu`, an array of expected counts of any shape, or
    - `log_expected`: `log_expected(params) -> log(mu)`. Better where `mu` may be very small: a bin whose expectation
        underflows to 0 still has a gradient.

    **Raises:** `TypeError` unless exactly one is given and can be called with the parameters alone.
    """

    expected: Callable[[Any], Array] | None = None
    log_expected: Callable[[Any], Array] | None = None

    def __check_init__(self):
        if (self.expected is None) == (self.log_expected is None):
            raise TypeError("PoissonNLL takes either expected or log_expected: a function of the parameters")
        if self.expected is not None:
            check_callable(self.expected, "the expectation of PoissonNLL", "expected(params)")
        else:
            check_callable(self.log_expected, "the expectation of PoissonNLL", "log_expected(params)")

    def __call__(self, params: PyTree, data: Float[Array, "*bins"]) -> Scalar:
        """Minus the log of the likelihood of the counts `data`, which have the shape of the expectation.

        A bin with an expectation of 0 counts 0 if it is empty, else infinity; a negative expectation gives NaN.
        """
        return jnp.sum(self.terms(params, data))

    def terms(self, params: PyTree, data: Float[Array, "*bins"]) -> Float[Array, "*bins"]:
        """The likelihood's terms, one a bin."""
        if isinstance(data, tuple | list | dict) or data is None:
            raise TypeError(f"PoissonNLL takes an array of counts as data, got {type(data).__name__}")
        n, params = jnp.asarray(data), resolve(params)
        if self.log_expected is not None:
            log_mu = jnp.asarray(self.log_expected(params))
            _check_shape(log_mu, n)
            return _from_log(log_mu, n.astype(log_mu.dtype))
        assert self.expected is not None
        mu = jnp.asarray(self.expected(params))
        _check_shape(mu, n)
        return _from_mean(mu, n.astype(mu.dtype))

    def expected_data(self, params: PyTree) -> Float[Array, "*bins"]:
        """The expected counts: the Asimov data."""
        params = resolve(params)
        if self.log_expected is not None:
            return jnp.exp(self.log_expected(params))
        assert self.expected is not None
        return self.expected(params)

    def faults(self, params: PyTree, data: Float[Array, "*bins"]) -> Int[Array, "*bins"]:
        """For each bin what makes the likelihood infinite or NaN there, a `Fault` number, for messages."""
        n, mu = jnp.asarray(data), self.expected_data(params)
        zero = mu == 0 if self.log_expected is None else self.log_expected(resolve(params)) == -jnp.inf
        code = jnp.where((n > 0) & zero, int(Fault.EXPECTED_ZERO), int(Fault.NONE))
        code = jnp.where(jnp.isfinite(mu), code, int(Fault.EXPECTED_NOT_FINITE))
        code = jnp.where(mu < 0, int(Fault.EXPECTED_NEGATIVE), code)
        return jnp.where(n < 0, int(Fault.NEGATIVE), code)

    def sample(self, params: PyTree, key: Array) -> Float[Array, "*bins"]:
        """One set of counts drawn at `params`."""
        mu = self.expected_data(params)
        return jax.random.poisson(key, mu).astype(mu.dtype)


def _check_shape(mu: Array, n: Array) -> None:
    if mu.shape != n.shape:
        raise ValueError(f"the expected counts have shape {mu.shape}, the data {n.shape}; they must be the same")


def _from_log(log_mu: Array, n: Array) -> Array:
    # n (exp(r) - 1 - r) with r = log(mu/n) has no cancellation where mu is near n
    observed = n > 0
    ratio = log_mu - jnp.log(jnp.where(observed, n, 1.0))
    ratio = jnp.where(observed, ratio, 0.0)
    empty = jnp.where(observed, 0.0, log_mu)
    return jnp.where(observed, n * (jnp.expm1(ratio) - ratio), jnp.where(n == 0, jnp.exp(empty), jnp.nan))


def _from_mean(mu: Array, n: Array) -> Array:
    observed = n > 0
    ratio = jnp.log(jnp.where(observed, mu, 1.0) / jnp.where(observed, n, 1.0))
    empty = jnp.where((n == 0) & (mu >= 0), mu, jnp.nan)
    return jnp.where(observed, jnp.where(observed, mu, 1.0) - n - n * ratio, empty)
