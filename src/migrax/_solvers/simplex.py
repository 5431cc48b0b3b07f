"""SIMPLEX: the downhill simplex of Nelder and Mead, for functions without derivatives, as an Optimistix minimiser."""

from collections.abc import Callable
from typing import Any, TypeVar

import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._host import flow, xp
from .._util.fields import with_fields
from .._util.typing import PyTree
from .base import DIVERGED, NOT_FINITE, SUCCEEDED, AbstractEDMSolver, AbstractState, scalar_option, zeros_like_struct
from .flat import flatten, flatten_fn, value_and_aux

Y = TypeVar("Y")
Aux = TypeVar("Aux")

# Phases: the role of the trial point.
_FILL, _REFLECT, _EXPAND, _OUTSIDE, _INSIDE, _SHRINK = range(6)
# The largest final size of the simplex, relative to its largest size so far.
_WIDTH = 1e-3


class _SimplexState(AbstractState[Aux]):
    # the simplex
    vertices: Float[Array, "n+1 n"]
    values: Float[Array, " n+1"]
    size: Float[Array, " n"]  # of the largest so far
    # the best point so far
    x: Float[Array, " n"]
    f: Scalar
    aux: Aux
    # the trial point
    phase: Int[Array, ""]
    index: Int[Array, ""]  # its place in the simplex, while filling or shrinking
    reflected: Float[Array, " n"]
    f_reflected: Scalar
    # progress
    varies: Bool[Array, ""]  # two different values have been seen
    terminate: Bool[Array, ""]
    ending: Int[Array, ""]
    num_values: Int[Array, ""]


class Simplex(  # pyright: ignore[reportIncompatibleVariableOverride]
    AbstractEDMSolver[Y, Scalar, Aux, _SimplexState[Any]], optx.AbstractMinimiser[Y, Aux, _SimplexState[Any]]
):
    """The downhill simplex method, which uses values only: for a function that is rough or has no gradient.

    Each step takes one evaluation. It stops when the values at the vertices differ by less than 0.002 `tol` `up` and
    the vertices are close together (1e-3 of the largest simplex), so that it does not stop at a symmetric start.

    Supports the following `options`:

    - `step`: the size of the first simplex along each of the `n` numbers of `y` (a number or shape `(n,)`, in the
        order of `jax.flatten_util.ravel_pytree`). Default: a tenth of the number, or 0.1 where it is 0.
    - `goal`: the spread of the values at which to stop, in place of 0.002 `tol` `up`; it may be traced.
    - `idle`: if true (it may be traced), return at once: for lanes of a vmapped solve that have nothing to do.

    The `stats` of the solution hold `num_values`, `num_gradients` and `num_hessians` (both 0).

    ??? cite "References"

        J. A. Nelder and R. Mead, Comput. J. 7 (1965) 308, with the coefficients of F. Gao and L. Han, Comput. Optim.
        Appl. 51 (2012) 259, that depend on the dimension.
    """

    tol: float = 0.1
    up: float = 0.5
    rtol: float = 1e-6
    atol: float = 1e-6

    def init(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree,
        aux_struct: PyTree,
        tags: frozenset[object],
    ) -> _SimplexState[Any]:
        x, _ = flatten(y)
        size = _first_size(x, options)
        inf = xp.asarray(xp.inf, x.dtype)
        return _SimplexState(
            vertices=xp.concatenate([x[None], x[None] + xp.diag(size)]),
            values=xp.full(x.size + 1, xp.inf, x.dtype),
            size=xp.abs(size),
            x=x,
            f=inf,
            aux=zeros_like_struct(aux_struct),
            phase=xp.array(_FILL),
            index=xp.array(0),
            reflected=x,
            f_reflected=inf,
            varies=xp.array(False),
            terminate=xp.asarray(options.get("idle", False)),
            ending=xp.array(SUCCEEDED),
            num_values=xp.array(0),
        )

    def step(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _SimplexState[Any],
        tags: frozenset[object],
    ) -> tuple[Y, _SimplexState[Any], Aux]:
        trial, unravel, flat = flatten_fn(fn, y, args)
        f_trial, aux_trial = value_and_aux(flat, trial)
        f_trial = xp.where(xp.isfinite(f_trial), f_trial, xp.inf)
        is_best = f_trial < state.f
        x, f, aux = flow.select(is_best, (trial, f_trial, aux_trial), (state.x, state.f, state.aux))
        reflecting = state.phase == _REFLECT
        reflected, f_reflected = flow.select(reflecting, (trial, f_trial), (state.reflected, state.f_reflected))

        vertices, values, phase, index = _insert_trial(state, trial, f_trial)
        spread = xp.max(values) - xp.min(values)
        width = xp.max(xp.abs(vertices - x[None]), axis=0)
        size = xp.maximum(state.size, xp.where(xp.isfinite(width), width, 0.0))
        varies = state.varies | (xp.isfinite(state.f) & (f_trial != state.f))
        complete = phase == _REFLECT
        goal = scalar_option(options, "goal", self.goal, f.dtype)
        done = complete & (spread <= goal) & xp.all(width <= _WIDTH * size)
        done = done & (self.settled(options, x, f, width, spread))
        all_nonfinite = complete & ~xp.isfinite(f)
        ending = xp.where(done & ~varies, DIVERGED, state.ending)
        new = with_fields(
            state,
            vertices=vertices,
            values=values,
            size=size,
            x=x,
            f=f,
            aux=aux,
            phase=phase,
            index=index,
            reflected=reflected,
            f_reflected=f_reflected,
            varies=varies,
            terminate=done | all_nonfinite,
            ending=xp.where(all_nonfinite, NOT_FINITE, ending),
            num_values=state.num_values + 1,
        )
        return unravel(_next_trial(vertices, values, phase, index)), new, aux_trial

    def stats(self, state: _SimplexState[Any]) -> dict[str, Any]:
        zero = xp.array(0)
        return {"num_values": state.num_values, "num_gradients": zero, "num_hessians": zero}


Simplex.__init__.__doc__ = """**Arguments:**

- `tol`: MINUIT's tolerance. The solver stops when the values in the simplex differ by less than 0.002 `tol` `up`.
- `up`: by how much the function rises over one error: 0.5 for minus log L, 1.0 for a chi-squared.
- `rtol`: where no option `goal` is given (`mx.fit`, which knows the units, gives it), the simplex must be within `atol
    + rtol |y|` for each number of `y`, and the differences of the values within `atol + rtol |f|`, unless they are
    noise.
- `atol`: see `rtol`.
"""


def _first_size(x: Float[Array, " n"], options: dict[str, Any]) -> Float[Array, " n"]:
    size = options.get("step")
    if size is None:
        return xp.where(x != 0, 0.1 * xp.abs(x), 0.1)
    size = xp.asarray(size).astype(x.dtype)
    if size.shape not in ((), x.shape):
        raise ValueError(f"options['step'] must be one number or have shape {x.shape}, got {size.shape}")
    return xp.broadcast_to(size, x.shape)


def _insert_trial(
    state: _SimplexState[Any], trial: Float[Array, " n"], f: Scalar
) -> tuple[Float[Array, "n+1 n"], Float[Array, " n+1"], Int[Array, ""], Int[Array, ""]]:
    """Inserts the evaluated point into the simplex and chooses the next phase."""
    n = trial.size
    phase, values = state.phase, state.values
    order = xp.argsort(values)
    worst, second_worst, lowest = order[-1], order[-2], order[0]
    filling = (phase == _FILL) | (phase == _SHRINK)
    reflect = phase == _REFLECT
    expand = reflect & (f < values[lowest])
    take = reflect & ~expand & (f < values[second_worst])
    outside = reflect & ~expand & ~take & (f < values[worst])
    inside = reflect & ~expand & ~take & ~outside
    take_reflected = (phase == _EXPAND) & ~(f < state.f_reflected)
    take = take | ((phase == _EXPAND) & ~take_reflected)
    take = take | ((phase == _OUTSIDE) & (f <= state.f_reflected))
    take = take | ((phase == _INSIDE) & (f < values[worst]))
    shrink = ((phase == _OUTSIDE) | (phase == _INSIDE)) & ~take

    place = xp.where(filling, state.index, worst)
    write = filling | take | take_reflected
    vertex, value = flow.select(take_reflected, (state.reflected, state.f_reflected), (trial, f))
    vertices = xp.set_at(state.vertices, place, xp.where(write, vertex, state.vertices[place]))
    values = xp.set_at(values, place, xp.where(write, value, values[place]))
    # A shrink moves all vertices towards the best one, which is swapped to place 0 and keeps its value.
    swapped = xp.set_at(xp.set_at(vertices, 0, vertices[lowest]), lowest, vertices[0])
    swapped_values = xp.set_at(xp.set_at(values, 0, values[lowest]), lowest, values[0])
    best = swapped[:1]
    shrunk = best + (1 - 1 / max(n, 2)) * (swapped - best)
    vertices, values = flow.select(shrink, (shrunk, swapped_values), (vertices, values))

    index = xp.where(shrink, 1, state.index + filling.astype(state.index.dtype))
    is_unfinished = filling & (index <= n)
    new_phase = xp.where(expand, _EXPAND, xp.where(outside, _OUTSIDE, xp.where(inside, _INSIDE, _REFLECT)))
    new_phase = xp.where(is_unfinished, phase, xp.where(shrink, _SHRINK, new_phase))
    return vertices, values, new_phase.astype(phase.dtype), index


def _next_trial(
    vertices: Float[Array, "n+1 n"], values: Float[Array, " n+1"], phase: Int[Array, ""], index: Int[Array, ""]
) -> Float[Array, " n"]:
    n = vertices.shape[1]
    d = max(n, 2)
    worst = xp.argmax(values)
    centroid = (xp.sum(vertices, axis=0) - vertices[worst]) / n
    away = centroid - vertices[worst]
    # Distances from the centroid along `away`: reflect 1, expand 1 + 2/n, contract 3/4 - 1/(2n).
    contract = 0.75 - 0.5 / d
    factors = xp.array([0.0, 1.0, 1.0 + 2.0 / d, contract, -contract, 0.0], vertices.dtype)
    filling = (phase == _FILL) | (phase == _SHRINK)
    return xp.where(filling, vertices[xp.minimum(index, n)], centroid + factors[phase] * away)
