"""The approximate inverse Hessian of a lane: a matrix or, for many parameters, the list of steps that define it.

Both represent the same operator, the BFGS update (R. Fletcher, Comput. J. 13 (1970) 317) of the identity,

    V <- V - (s v' + v s') / (s'y) + (1 + y'v / s'y) s s' / (s'y),    v = V y,

after steps s that changed the gradient by y.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Scalar

_MAX_DENSE = 24  # up to this number of parameters the matrix is smaller than the pairs
_MAX_PAIRS = 24  # number of steps that can be stored
_MANY = 256  # from so many parameters on a search needs more of them
_MOST_PAIRS = 256


class Matrix(NamedTuple):
    """The inverse Hessian as a dense matrix."""

    entries: Float[Array, "n n"]

    def product(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.sum(self.entries * g[None, :], axis=1)

    def updated(self, s: Float[Array, " n"], v: Float[Array, " n"], inverse_sy: Scalar, ss_weight: Scalar) -> "Matrix":
        """Applies an update, with `inverse_sy` = 1 / s'y and `ss_weight` = (1 + y'v / s'y) / s'y, or zeros for none."""
        mixed = s[:, None] * v[None, :]
        return Matrix(self.entries - inverse_sy * (mixed + mixed.T) + ss_weight * s[:, None] * s[None, :])

    @property
    def full(self) -> Bool[Array, ""]:
        return jnp.array(False)


class Pairs(NamedTuple):
    """The inverse Hessian as the list of all steps. A lane without room for another one is `full`: its toy is left to
    the full fit."""

    s: Float[Array, "m n"]
    v: Float[Array, "m n"]
    inverse_sy: Float[Array, " m"]
    ss_weight: Float[Array, " m"]
    n_stored: Int[Array, ""]  # the number of steps stored

    def product(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        sg, vg = jnp.sum(self.s * g, axis=1), jnp.sum(self.v * g, axis=1)
        s_weights, v_weights = self.ss_weight * sg - self.inverse_sy * vg, -self.inverse_sy * sg
        return g + jnp.sum(s_weights[:, None] * self.s + v_weights[:, None] * self.v, axis=0)

    def updated(self, s: Float[Array, " n"], v: Float[Array, " n"], inverse_sy: Scalar, ss_weight: Scalar) -> "Pairs":
        is_update = inverse_sy > 0
        row = jnp.where(is_update, self.n_stored, self.s.shape[0])  # one out of range is dropped
        put = lambda old, new: old.at[row].set(new, mode="drop")  # noqa: E731
        rows = (
            put(self.s, s),
            put(self.v, v),
            put(self.inverse_sy, inverse_sy),
            put(self.ss_weight, ss_weight),
        )
        return Pairs(*rows, self.n_stored + is_update)

    @property
    def full(self) -> Bool[Array, ""]:
        return self.n_stored == self.s.shape[0]


def max_pairs(n: int) -> int:
    """The number of steps that a lane of `n` parameters can store. (Toys of 1,000 parameters that the data pull and
    constrain need about a hundred.)"""
    return _MAX_PAIRS if n < _MANY else min(_MAX_PAIRS + n // 8, _MOST_PAIRS)


def identity(x: Float[Array, " n"]) -> Matrix | Pairs:
    """Returns the inverse Hessian before the first step, in the coordinates `x`."""
    n = x.size
    if n <= _MAX_DENSE:
        return Matrix(jnp.eye(n, dtype=x.dtype))
    zeros, zero_weights = jnp.zeros((max_pairs(n), n), x.dtype), jnp.zeros(max_pairs(n), x.dtype)
    return Pairs(zeros, zeros, zero_weights, zero_weights, jnp.array(0))
