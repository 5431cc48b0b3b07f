"""What an equation costs NumPy, so that it can be decided whether compiling pays."""

import math
from typing import Any

_CALL = 1e-6  # seconds for each call of NumPy
_NUMBER = 5e-10  # for each number of a plain operation
_SLOW = {  # for each number of these, in units of the above
    **dict.fromkeys(("gather", "scatter", "scatter-add", "scatter_add", "sort"), 20),
    **dict.fromkeys(("exp", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh", "logistic", "sqrt", "div"), 10),
    **dict.fromkeys(("pow", "atan2", "erf", "erfc", "erf_inv", "exp2", "cbrt"), 40),
    **dict.fromkeys(("lgamma", "digamma", "bessel_i0e", "bessel_i1e"), 80),
    **dict.fromkeys(("igamma", "igammac", "regularized_incomplete_beta", "polygamma", "zeta"), 600),
}
_MADE = ("broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "iota", "copy")  # no copies
_CUBIC = ("cholesky", "eigh", "lu", "triangular_solve")
UNKNOWN = 1e-4  # seconds for an equation that JAX evaluates
TRIPS = 20  # what is assumed for a loop whose length depends on values


def seconds(equation: Any) -> float:
    """Seconds for one evaluation, a rough guess; those of loops are the caller's. Of five likelihoods that were timed,
    of 4 to 200,000 data, the sum was within a quarter of what their plans took."""
    name = equation.primitive.name
    avals = [v.aval for v in (*equation.invars, *equation.outvars)]
    size = max((math.prod(aval.shape) for aval in avals), default=1)
    if name in _MADE:
        return _CALL
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        size = math.prod(equation.outvars[0].aval.shape) * math.prod(avals[0].shape[i] for i in contracted)
    elif name in _CUBIC:
        size *= 10 * max(avals[0].shape, default=1)
    return _CALL + _NUMBER * size * _SLOW.get(name, 1)
