"""Interpolation of a template in its nuisance parameter, within and beyond the variations by one standard deviation.

(HistFactory: K. Cranmer et al., CERN-OPEN-2012-016, section 4.1; codes 4 and 4p are those of RooFit's
`FlexibleInterpVar` and `PiecewiseInterpolation`.)
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def factor(alpha: Float[Array, "*n"], lo: Float[Array, "*n"], hi: Float[Array, "*n"], code: int) -> Float[Array, "*n"]:
    """The factor of a yield: 1 for `alpha` 0, `hi` for 1, `lo` for -1, all of them positive.

    Code 1: exponential. Code 4: a polynomial within one standard deviation, exponential beyond.
    """
    up, down = jnp.log(hi), -jnp.log(lo)
    slope = jnp.where(alpha >= 0, up, down)
    if code == 1:
        return jnp.exp(alpha * slope)
    inside = jnp.abs(alpha) < 1
    x = jnp.where(inside, alpha, 0.0)
    series = 0.0
    for coefficient in reversed(_coefficients(lo, hi, up, down)):
        series = x * (coefficient + series)
    return jnp.where(inside, 1 + series, jnp.exp(jnp.where(inside, 0.0, alpha) * slope))


def _coefficients(lo: Array, hi: Array, up: Array, down: Array) -> tuple[Array, ...]:
    """The coefficients of x, x², ... x⁶: value, slope and curvature are those of the exponentials at -1 and 1."""
    s0, a0 = 0.5 * (hi + lo) - 1, 0.5 * (hi - lo)
    s1, a1 = 0.5 * (hi * up + lo * down), 0.5 * (hi * up - lo * down)
    s2, a2 = 0.5 * (hi * up**2 + lo * down**2), 0.5 * (hi * up**2 - lo * down**2)
    return (
        (15 * a0 - 7 * s1 + a2) / 8,
        (24 * s0 - 9 * a1 + s2) / 8,
        (-5 * a0 + 5 * s1 - a2) / 4,
        (-12 * s0 + 7 * a1 - s2) / 4,
        (3 * a0 - 3 * s1 + a2) / 8,
        (8 * s0 - 5 * a1 + s2) / 8,
    )


def shares(alpha: Float[Array, "*n"], code: int) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The fractions of (hi - nominal) and of (nominal - lo) that are added to a nominal yield.

    Code 0: linear in each direction. 2: quadratic within one standard deviation, linear beyond. 4 (pyhf's 4p): a
    polynomial within, linear beyond. -2: pyhf's code 2, which jumps at one standard deviation.
    """
    above, below = alpha > 1, alpha < -1
    if code in (2, -2):
        x = jnp.clip(alpha, -1, 1)
        up, down = 0.5 * (x**2 + x), 0.5 * (x - x**2)
        if code == 2:
            over, under = jnp.where(above, alpha - 1, 0.0), jnp.where(below, alpha + 1, 0.0)
            return up + 1.5 * over - 0.5 * under, down - 0.5 * over + 1.5 * under
        up = jnp.where(above, 1.5 * (alpha - 1), jnp.where(below, -0.5 * alpha, up))
        return up, jnp.where(above, -0.5 * (alpha - 1), jnp.where(below, 1.5 * alpha, down))
    one_sided = jnp.where(alpha >= 0, alpha, 0.0), jnp.where(alpha >= 0, 0.0, alpha)
    if code == 0:
        return one_sided
    outside, x = above | below, jnp.clip(alpha, -1, 1)
    even = x**2 * (15 + x**2 * (3 * x**2 - 10)) / 16
    return jnp.where(outside, one_sided[0], 0.5 * x + even), jnp.where(outside, one_sided[1], 0.5 * x - even)


_DEFAULT = {"normsys": 4, "histosys": 4}
_KNOWN = {
    "normsys": {1: 1, "1": 1, "code1": 1, 4: 4, "4": 4, "code4": 4},
    "histosys": {
        **{0: 0, "0": 0, "code0": 0},
        **{2: -2, "2": -2, "code2": -2, "2c": 2, "code2c": 2},
        **{"4p": 4, "code4p": 4},
    },
}


def codes(interpolation: Mapping[str, Any] | None) -> tuple[int, int]:
    """The codes of normsys and histosys from the user's settings: `{"normsys": "code1", "histosys": "code0"}`, or
    pyhf's `modifier_settings`.

    **Raises:** `TypeError` or `ValueError` for invalid settings.
    """
    if interpolation is not None and not isinstance(interpolation, Mapping):
        raise TypeError(
            f'interpolation must be as in {{"normsys": "code4", "histosys": "code4p"}}, got {interpolation!r}'
        )
    given = dict(interpolation or {})
    if set(given) == {"modifier_settings"} and isinstance(given["modifier_settings"], Mapping):
        given = dict(given["modifier_settings"])
    unknown = [name for name in given if name not in _KNOWN]
    if unknown:
        raise ValueError(f"interpolation is of normsys and histosys; got {unknown[0]!r}")
    chosen = dict(_DEFAULT)
    for name, code in given.items():
        code = code.get("interpcode") if isinstance(code, Mapping) else code
        code = code.lower() if isinstance(code, str) else code
        if isinstance(code, bool) or not isinstance(code, int | str) or code not in _KNOWN[name]:
            names = ", ".join(k for k in _KNOWN[name] if isinstance(k, str) and k.startswith("code"))
            raise ValueError(f"the interpolation of {name} must be one of {names}; got {code!r}")
        chosen[name] = _KNOWN[name][code]
    return chosen["normsys"], chosen["histosys"]
