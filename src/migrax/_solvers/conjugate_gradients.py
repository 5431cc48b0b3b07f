"""Conjugate gradients: the step of a quadratic model within a trust region, and the solution of `H x = b`."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, Scalar

from .._host import flow, xp

Linear = Callable[[Float[Array, " n"]], Float[Array, " n"]]


class Steps(NamedTuple):
    """The sum of the steps of conjugate gradients, and what it means to the model `g s + s H s / 2`."""

    step: Float[Array, " n"]
    residual: Float[Array, " n"]  # g + H s
    length: Scalar  # in the norm of the preconditioner
    slope: Scalar  # g s
    curvature: Scalar  # s H s
    rest: Scalar  # of the residual: r P r, with P the preconditioner, an approximate inverse of H
    inside: Bool[Array, ""]  # ended at the tolerance, not at the end of the region or where the curvature is negative
    num_products: Int[Array, ""]

    @property
    def predicted(self) -> Scalar:
        """By how much the step reduces the model."""
        return -(self.slope + 0.5 * self.curvature)

    @classmethod
    def none(cls, x: Float[Array, " n"]) -> "Steps":
        zero = xp.zeros((), x.dtype)
        return cls(xp.zeros_like(x), xp.zeros_like(x), zero, zero, zero, zero, xp.array(False), xp.array(0))


class _Carry(NamedTuple):
    step: Float[Array, " n"]
    residual: Float[Array, " n"]
    direction: Float[Array, " n"]
    rest: Scalar  # r P r
    # the products of step and direction in the norm of the preconditioner's inverse, by their recurrences
    ss: Scalar
    sd: Scalar
    dd: Scalar
    inside: Bool[Array, ""]
    done: Bool[Array, ""]
    products: Int[Array, ""]


def steps_within(
    product: Linear, g: Float[Array, " n"], precondition: Linear, radius: Scalar, tolerance: Scalar, most: int
) -> Steps:
    """Minimises `g s + s H s / 2` over `|s| <= radius`, in the norm of the inverse of the preconditioner, by conjugate
    gradients that stop at the end of the region (T. Steihaug, SIAM J. Numer. Anal. 20 (1983) 626; the recurrences of
    the norms: A. R. Conn, N. I. M. Gould and Ph. L. Toint, Trust-Region Methods (2000), algorithm 7.5.1).

    **Arguments:**

    - `product`: the function v -> H v.
    - `precondition`: the function v -> P v, with P positive definite and near the inverse of H.
    - `tolerance`: the size of the residual `g + H s` at which to stop, relative to that of `g`.
    - `most`: the most products.
    """
    z = precondition(g)
    first = g @ z
    zero = xp.zeros_like(first)
    start = _Carry(xp.zeros_like(g), g, -z, first, zero, zero, first, xp.array(True), ~(first > 0), xp.array(0))

    def body(c: _Carry) -> _Carry:
        h = product(c.direction)
        curvature = c.direction @ h
        falls = ~(curvature > 0)  # NaN, too
        alpha = c.rest / xp.where(falls, 1.0, curvature)
        ahead = c.ss + 2 * alpha * c.sd + alpha**2 * c.dd
        leaves = falls | (ahead >= radius**2)
        # to the end of the region, along the direction, which leads down
        root = xp.sqrt(xp.maximum(c.sd**2 + c.dd * (radius**2 - c.ss), 0.0))
        to_end = (root - c.sd) / xp.where(c.dd > 0, c.dd, 1.0)
        length = xp.where(leaves, to_end, alpha)
        step, residual = c.step + length * c.direction, c.residual + length * h
        z = precondition(residual)
        rest = residual @ z
        beta = rest / c.rest
        return _Carry(
            step=step,
            residual=residual,
            direction=beta * c.direction - z,
            rest=rest,
            ss=xp.where(leaves, radius**2, ahead),
            sd=beta * (c.sd + alpha * c.dd),
            dd=rest + beta**2 * c.dd,
            inside=~leaves,
            done=leaves | ~(rest > tolerance**2 * first) | (c.products + 1 >= most),
            products=c.products + 1,
        )

    c = flow.while_loop(lambda c: ~c.done, body, start)
    slope = g @ c.step
    return Steps(
        step=c.step,
        residual=c.residual,
        length=xp.sqrt(c.ss),
        slope=slope,
        curvature=c.step @ (c.residual - g),
        rest=xp.maximum(c.rest, 0.0),
        inside=c.inside,
        num_products=c.products,
    )
