"""The inverse Hessian in a search that starts from a minimum: the covariance there, updated by the BFGS formula (R.
Fletcher, Comput. J. 13 (1970) 317).

For some parameters each lane has it as a matrix. For many it is a list of steps, beside the covariance that all lanes
share, and nothing of a lane has the size of a matrix. What is shared stands outside of the state of a loop: JAX copies
that for each lane.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, Scalar

from .._host import xp
from .._solvers.metric import bfgs, is_usable_update
from .conditional_covariance import conditional, off_symmetry

_MAX_MATRIX = 64  # up to this number of parameters each lane has a matrix
MANY = 256  # from so many parameters on a search takes, and stores, more steps
_MAX_STEPS, _MAX_STEPS_OF_MANY = 40, 128  # that are stored; later ones update nothing


class Shared(NamedTuple):
    """The inverse Hessian before the first step: `F C F` less the outer products of the rows of `taken`, where `F` is
    diagonal."""

    covariance: Float[Array, "n n"]  # C, in external coordinates: that of all lanes
    factor: Float[Array, " n"]  # of the coordinates of the search; 0 for parameters that do not move
    taken: Float[Array, "k n"]

    def product(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.factor * (self.covariance @ (self.factor * g)) - self.taken.T @ (self.taken @ g)

    def diagonal(self) -> Float[Array, " n"]:
        return self.factor**2 * xp.diagonal(self.covariance) - xp.sum(self.taken**2, axis=0)

    def updates(self) -> "Steps":
        n, dtype = self.factor.size, self.factor.dtype
        most = _MAX_STEPS if n < MANY else _MAX_STEPS_OF_MANY
        zeros, none = xp.zeros((most, n), dtype), xp.zeros(most, dtype)
        return Steps(zeros, zeros, none, none, xp.array(0))


class Steps(NamedTuple):
    """All steps since the start, which update the inverse Hessian."""

    s: Float[Array, "m n"]
    vy: Float[Array, "m n"]  # the product with the change of the gradient, before the update
    inverse_sy: Float[Array, " m"]
    ss_weight: Float[Array, " m"]
    num_stored: Int[Array, ""]

    def product(self, start: Shared, g: Float[Array, " n"]) -> Float[Array, " n"]:
        sg, vg = self.s @ g, self.vy @ g
        of_s, of_vy = self.ss_weight * sg - self.inverse_sy * vg, self.inverse_sy * sg
        return start.product(g) + self.s.T @ of_s - self.vy.T @ of_vy

    def updated(self, start: Shared, s: Float[Array, " n"], y: Float[Array, " n"], skip: Bool[Array, ""]) -> "Steps":
        """After a step `s` that changed the gradient by `y`; the same if `skip`, or with no room for another one."""
        vy = self.product(start, y)
        sy, yvy = s @ y, y @ vy
        stores = is_usable_update(sy, yvy) & ~skip & (self.num_stored < self.s.shape[0])
        inverse_sy = xp.where(stores, 1 / xp.where(stores, sy, 1.0), 0.0)
        place = xp.minimum(self.num_stored, self.s.shape[0] - 1)
        put = lambda rows, new: xp.set_at(rows, place, xp.where(stores, new, rows[place]))  # noqa: E731
        return Steps(
            s=put(self.s, s),
            vy=put(self.vy, vy),
            inverse_sy=put(self.inverse_sy, inverse_sy),
            ss_weight=put(self.ss_weight, inverse_sy * (1 + yvy * inverse_sy)),
            num_stored=self.num_stored + stores,
        )


class Own(NamedTuple):
    """The inverse Hessian before the first step as a matrix."""

    entries: Float[Array, "n n"]

    def product(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.entries @ g

    def diagonal(self) -> Float[Array, " n"]:
        return xp.diagonal(self.entries)

    def updates(self) -> "Matrix":
        return Matrix(self.entries)


class Matrix(NamedTuple):
    """The updated inverse Hessian as a matrix."""

    entries: Float[Array, "n n"]

    def product(self, start: Own, g: Float[Array, " n"]) -> Float[Array, " n"]:
        del start
        return self.entries @ g

    def updated(self, start: Own, s: Float[Array, " n"], y: Float[Array, " n"], skip: Bool[Array, ""]) -> "Matrix":
        """After a step `s` that changed the gradient by `y`; the same if `skip`."""
        del start
        return Matrix(xp.where(skip, self.entries, bfgs(self.entries, s, y)))


Start = Shared | Own
Updates = Any  # the `Matrix` of an `Own`, the `Steps` of a `Shared`


def at_the_minimum(
    covariance: Float[Array, "n n"],
    rows: Float[Array, "k n"],
    slopes: Float[Array, " n"],
    moves: Bool[Array, " n"] | None = None,
) -> Start:
    """The inverse Hessian at the minimum in the coordinates of a search, conditional on `rows @ x`.

    **Arguments:**

    - `covariance`: that of the minimum; `slopes`: the derivatives of the external coordinates there.
    - `moves`: which parameters move; default all.
    """
    if slopes.size <= _MAX_MATRIX:
        v = conditional(covariance, rows) / (slopes[:, None] * slopes[None, :])
        usable = xp.isfinite(v) if moves is None else xp.isfinite(v) & moves[:, None] & moves[None, :]
        return Own(xp.where(usable, v, 0.0))
    covariance = xp.where(xp.isfinite(covariance), covariance, 0.0)
    steep = slopes != 0 if moves is None else moves & (slopes != 0)
    factor = xp.where(steep, 1 / xp.where(steep, slopes, 1.0), 0.0)
    return Shared(covariance, factor, _taken(covariance, rows) * factor[None, :])


def _taken(covariance: Float[Array, "n n"], rows: Float[Array, "k n"]) -> Float[Array, "k n"]:
    """The vectors whose outer products a covariance loses if it is conditional on `rows @ x`."""
    taken = xp.zeros((0, covariance.shape[0]), covariance.dtype)
    for row in rows:
        v = covariance @ row - taken.T @ (taken @ row)
        variance = row @ v
        known = variance > 0
        size = xp.sqrt(xp.where(known, variance, 1.0))
        taken = xp.concatenate([taken, xp.where(known, v / size, 0.0)[None]])
    return taken


def aside(inverse: Start, row: Float[Array, " n"] | None = None) -> Float[Array, " n"]:
    """The tiny step off a symmetry of the likelihood (`off_symmetry`); at a constant `row @ x`, if there is one."""
    if row is None:
        return off_symmetry(inverse.diagonal(), inverse.product)
    v = inverse.product(row)
    variance: Scalar = row @ v
    v = xp.where(variance > 0, v / xp.sqrt(xp.where(variance > 0, variance, 1.0)), 0.0)
    return off_symmetry(inverse.diagonal() - v**2, lambda g: inverse.product(g) - v * (v @ g))
