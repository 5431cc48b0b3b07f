"""`log` and `log1p`, as those of `jax.numpy`, in a form that XLA's CPU compiler turns into vector instructions.

XLA calls a scalar function for each logarithm of a float64, which costs more than all else in many likelihoods. Here it
is made of the bits of the number and of a polynomial; the errors are below one unit in the last place, those of `log1p`
below 2.5. Other dtypes and other platforms have XLA's own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, ArrayLike, Float

# x = m 2^k with sqrt(1/2) <= m < sqrt 2, f = m - 1, s = f / (2 + f): log m = f - (f²/2 - s (f²/2 + R)), where R is the
# series of (log((1 + s) / (1 - s)) - 2 s) / s in powers of s², fitted to 2^-58: the method and the coefficients of
# FDLIBM's e_log.c (Sun Microsystems, 1993).
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_MANTISSA_BITS = 52
_TWO_52_BITS = 0x4330000000000000
_NEAR_ONE = (-0.29, 0.41)  # 1 + x has k = 0, and x itself is f
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SERIES = (
    0.6666666666666735130, 0.3999999999940941908, 0.2857142874366239149, 0.2222219843214978396, 0.1818357216161805012,
    0.1531383769920937332, 0.1479819860511658591,
)  # fmt: skip


def log(x: ArrayLike) -> Float[Array, "..."]:
    """The natural logarithm: -inf at 0, NaN below."""
    return _bound(_LOG, jnp.log, x)


def log1p(x: ArrayLike) -> Float[Array, "..."]:
    """log(1 + x), precise for small x: -inf at -1, NaN below."""
    return _bound(_LOG1P, jnp.log1p, x)


def _bound(primitive: Primitive, otherwise: Callable[[ArrayLike], Array], x: ArrayLike) -> Array:
    if not isinstance(x, jax.Array | np.ndarray):
        return otherwise(x)
    x = jnp.asarray(x)
    return primitive.bind(x) if x.dtype == np.float64 else otherwise(x)


def _log_by_bits(x: Array) -> Array:
    tiny = np.finfo(np.float64).tiny
    usual = (x >= tiny) & (x < np.inf)
    value = _log_of_split(*_split(x))
    return jnp.where(usual, value, jnp.where(x < 0, np.nan, jnp.where(x < tiny, -np.inf, x)))


def _log1p_by_bits(x: Array) -> Array:
    usual, near = (x > -1) & (x < np.inf), (x > _NEAR_ONE[0]) & (x < _NEAR_ONE[1])
    k, f = _split(1 + x)
    value = _log_of_split(jnp.where(near, 0.0, k), jnp.where(near, x, f))
    return jnp.where(usual, value, jnp.where(x < -1, np.nan, jnp.where(x == -1, -np.inf, x)))


def _split(x: Array) -> tuple[Array, Array]:
    """k and f of a positive normal number."""
    bits = lax.bitcast_convert_type(x, jnp.uint64)
    exponent = (bits - np.uint64(_SQRT_HALF_BITS)) & np.uint64(0xFFF << _MANTISSA_BITS)
    m = lax.bitcast_convert_type(bits - exponent, jnp.float64)
    # an integer of 12 bits with a sign becomes a float without an instruction that only the newest processors have
    biased = (exponent >> np.uint64(_MANTISSA_BITS)) ^ np.uint64(0x800) | np.uint64(_TWO_52_BITS)
    return lax.bitcast_convert_type(biased, jnp.float64) - (2.0**_MANTISSA_BITS + 0x800), m - 1


def _log_of_split(k: Array, f: Array) -> Array:
    s = f / (2 + f)
    z = s * s
    series = jnp.full_like(z, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        series = series * z + coefficient
    half_square = 0.5 * f * f
    return k * _LN2_HIGH - ((half_square - (s * (half_square + series * z) + k * _LN2_LOW)) - f)


def _primitive(name: str, on_cpu: Callable[[Array], Array], otherwise: Callable[[Array], Array]) -> Primitive:
    """Of the same name as that of JAX, as it is the same function to whoever reads a jaxpr."""
    primitive = Primitive(name)
    primitive.def_abstract_eval(lambda x: x)
    primitive.def_impl(otherwise)  # where nothing is compiled: direct calls, `disable_jit`, a search for a NaN
    batching.defvectorized(primitive)

    def with_x64(x: Array) -> Array:
        with jax.enable_x64(True):  # a float64 may be left from before it was switched off
            return on_cpu(x)

    mlir.register_lowering(primitive, mlir.lower_fun(otherwise, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(with_x64, multiple_results=False), platform="cpu")
    return primitive


_LOG = _primitive("log", _log_by_bits, lax.log)
_LOG1P = _primitive("log1p", _log1p_by_bits, lax.log1p)
ad.defjvp(_LOG, lambda tangent, x: tangent / x)
ad.defjvp(_LOG1P, lambda tangent, x: tangent / (1 + x))
