"""Rules for special functions: those of SciPy, imported when a likelihood has one, which takes a tenth of a second and
more. The error functions of a few thousand numbers are Python's until somebody has imported it."""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def _scipy(name: str) -> Callable[[Any], Callable[..., Any]]:
    def rule(equation: Any) -> Callable[..., Any]:
        import scipy.special

        return getattr(scipy.special, name)

    return rule


_FEW = 5000  # numbers, for which Python takes less than a millisecond


def _of_python(name: str) -> Callable[[Any], Callable[..., Any] | None]:
    by_scipy, of_one = _scipy(name), np.frompyfunc(getattr(math, name), 1, 1)

    def rule(equation: Any) -> Callable[..., Any]:
        aval = equation.outvars[0].aval
        if "scipy.special" in sys.modules or math.prod(aval.shape) > _FEW:
            return by_scipy(equation)
        dtype = np.dtype(aval.dtype)
        return lambda x: np.asarray(of_one(x)).astype(dtype)[()]

    return rule


def _digamma(equation: Any) -> Callable[..., Any]:
    from scipy.special import psi

    # SciPy gives inf at -0, where XLA gives what it gives at 0: -inf, and NaN before JAX 0.12
    return lambda x: psi(np.where(x == 0, np.abs(x), x))


def _lgamma(equation: Any) -> Callable[..., Any]:
    from scipy.special import gammaln

    # SciPy gives -inf at -inf, where XLA gives inf
    return lambda x: gammaln(np.where(np.isneginf(x), -x, x))


def _polygamma(equation: Any) -> Callable[..., Any]:
    from scipy.special import gamma, psi, zeta

    def polygamma(m: Any, x: Any) -> Any:
        """(-1)^(m+1) m! zeta(m + 1, x), DLMF 25.11.12; digamma for m = 0."""
        dtype = np.result_type(x)
        sign = np.where(np.fmod(m, 2) == 1, dtype.type(1), dtype.type(-1))
        return np.where(m == 0, psi(x), sign * gamma(m + dtype.type(1)) * zeta(m + dtype.type(1), x)).astype(dtype)

    return polygamma


RULES: dict[str, Callable[[Any], Callable[..., Any] | None]] = {
    "bessel_i0e": _scipy("i0e"),
    "bessel_i1e": _scipy("i1e"),
    "digamma": _digamma,
    "erf": _of_python("erf"),
    "erf_inv": _scipy("erfinv"),
    "erfc": _of_python("erfc"),
    "igamma": _scipy("gammainc"),
    "igammac": _scipy("gammaincc"),
    "lgamma": _lgamma,
    "polygamma": _polygamma,
    "regularized_incomplete_beta": _scipy("betainc"),
    "zeta": _scipy("zeta"),
}
