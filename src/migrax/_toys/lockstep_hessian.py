"""What a lane knows of the inverse Hessian: a matrix or, for many parameters, the steps from which one would make it.

Both hold the same operator, BFGS's update (R. Fletcher, Comput. J. 13 (1970) 317) of the identity,

    V <- V - (s v' + v s') / (s'y) + (1 + y'v / s'y) s s' / (s'y),    v = V y,

after steps s that changed the gradient by y.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Scalar

_DENSE = 24  # parameters: with more of them the pairs are fewer numbers than the matrix
_PAIRS = 24


class Matrix(NamedTuple):
    """The matrix itself."""

    entries: Float[Array, "n n"]

    def product(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.sum(self.entries * g[None, :], axis=1)

    def updated(self, s: Float[Array, " n"], v: Float[Array, " n"], over: Scalar, more: Scalar) -> "Matrix":
        """`over` = 1 / s'y, `more` = over (1 + y'v over); both zero for no update."""
        mixed = s[:, None] * v[None, :]
        return Matrix(self.entries - over * (mixed + mixed.T) + more * s[:, None] * s[None, :])

    @property
    def full(self) -> Bool[Array, ""]:
        return jnp.array(False)


class Pairs(NamedTuple):
    """All steps; when there is no room for another, the lane is `full`, and its toy one for the full fit."""

    s: Float[Array, "m n"]
    v: Float[Array, "m n"]
    over: Float[Array, " m"]
    more: Float[Array, " m"]
    known: Int[Array, ""]  # how many

    def product(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        along, across = jnp.sum(self.s * g, axis=1), jnp.sum(self.v * g, axis=1)
        of_s, of_v = self.more * along - self.over * across, -self.over * along
        return g + jnp.sum(of_s[:, None] * self.s + of_v[:, None] * self.v, axis=0)

    def updated(self, s: Float[Array, " n"], v: Float[Array, " n"], over: Scalar, more: Scalar) -> "Pairs":
        learnt = over > 0
        here = learnt & (jnp.arange(_PAIRS) == self.known)
        put = lambda old, new: jnp.where(here[:, None] if old.ndim == 2 else here, new, old)  # noqa: E731
        rows = (put(self.s, s), put(self.v, v), put(self.over, over), put(self.more, more))
        return Pairs(*rows, self.known + learnt)

    @property
    def full(self) -> Bool[Array, ""]:
        return self.known == _PAIRS


def identity(x: Float[Array, " n"]) -> Matrix | Pairs:
    """That of a lane which has not gone anywhere, in coordinates `x`."""
    n = x.size
    if n <= _DENSE:
        return Matrix(jnp.eye(n, dtype=x.dtype))
    zeros, none = jnp.zeros((_PAIRS, n), x.dtype), jnp.zeros(_PAIRS, x.dtype)
    return Pairs(zeros, zeros, none, none, jnp.array(0))
