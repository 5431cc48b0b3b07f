"""SIMPLEX: the downhill simplex of Nelder and Mead, for functions without derivatives, as an Optimistix minimiser."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from .flat import flatten_fn

Y = TypeVar("Y")
Aux = TypeVar("Aux")

# What the point that is evaluated next is.
_FILL, _REFLECT, _EXPAND, _OUTSIDE, _INSIDE, _SHRINK = range(6)


class _SimplexState(eqx.Module, Generic[Aux]):
    vertices: Float[Array, "n+1 n"]
    values: Float[Array, " n+1"]
    aux: Aux  # of the best vertex
    best: Float[Array, " n"]
    f_best: Scalar
    trial: Float[Array, " n"]
    phase: Int[Array, ""]
    index: Int[Array, ""]  # the vertex to fill, while filling or shrinking
    reflected: Float[Array, " n"]
    f_reflected: Scalar
    terminate: Bool[Array, ""]
    result: optx.RESULTS
    num_values: Int[Array, ""]


class Simplex(optx.AbstractMinimiser[Y, Aux, _SimplexState]):
    """The downhill simplex method: values only, for a function that is rough or has no gradient.

    One step is one evaluation. It stops when the values at the vertices differ by less than 0.002 `tol` `up` and the
    vertices, too, are close together (1e-3 of the first simplex), so that a symmetric start does not end it.

    Supports the following `options`:

    - `step`: the size of the first simplex along each of the `n` numbers of `y` (a number or shape `(n,)`, in the
        order of `jax.flatten_util.ravel_pytree`). Default: a tenth of the number, or 0.1 where it is 0.

    - `idle`: if true (it may be traced) do nothing, for lanes of a vmapped solve that others wait for.

    ??? cite "References"

        J. A. Nelder and R. Mead, Comput. J. 7 (1965) 308, with the coefficients of F. Gao and L. Han, Comput. Optim.
        Appl. 51 (2012) 259, that depend on the dimension.
    """

    tol: float = 0.1
    up: float = 0.5

    @property
    def goal(self) -> float:
        """The spread of the values at which it stops, in units of the function."""
        return 0.002 * self.tol * self.up

    @property
    def rtol(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 0.0

    @property
    def atol(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.goal

    @property
    def norm(self) -> Callable[[PyTree], Scalar]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return optx.max_norm

    def init(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        f_struct: jax.ShapeDtypeStruct,
        aux_struct: PyTree[jax.ShapeDtypeStruct],
        tags: frozenset[object],
    ) -> _SimplexState:
        del f_struct, tags
        x, _, _ = flatten_fn(fn, y, args)
        size = _first_size(x, options)
        vertices = jnp.concatenate([x[None], x[None] + jnp.diag(size)])
        inf = jnp.asarray(jnp.inf, x.dtype)
        return _SimplexState(
            vertices=vertices,
            values=jnp.full(x.size + 1, jnp.inf, x.dtype),
            aux=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), aux_struct),
            best=x,
            f_best=inf,
            trial=x,
            phase=jnp.array(_FILL),
            index=jnp.array(0),
            reflected=x,
            f_reflected=inf,
            terminate=jnp.asarray(options.get("idle", False)),
            result=optx.RESULTS.successful,
            num_values=jnp.array(0),
        )

    def step(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _SimplexState,
        tags: frozenset[object],
    ) -> tuple[Y, _SimplexState, Aux]:
        del tags
        x, unravel, flat = flatten_fn(fn, y, args)
        f, aux = flat(state.trial)
        f = jnp.where(jnp.isnan(f), jnp.inf, f)
        better = f < state.f_best
        best, f_best, aux = jax.tree.map(
            lambda a, b: jnp.where(better, a, b), (state.trial, f, aux), (state.best, state.f_best, state.aux)
        )
        vertices, values, phase, index = self._absorb(state, f)
        trial = _next_trial(vertices, values, phase, index, state, f)
        reflecting = state.phase == _REFLECT
        size = _first_size(x, options)
        spread = jnp.max(values) - jnp.min(values)
        width = jnp.max(jnp.abs(vertices - best[None]) / size[None])
        done = (phase == _REFLECT) & (spread <= self.goal) & (width <= 1e-3)
        lost = (phase == _REFLECT) & ~jnp.isfinite(f_best)
        new = _SimplexState(
            vertices=vertices,
            values=values,
            aux=aux,
            best=best,
            f_best=f_best,
            trial=trial,
            phase=phase,
            index=index,
            reflected=jnp.where(reflecting, state.trial, state.reflected),
            f_reflected=jnp.where(reflecting, f, state.f_reflected),
            terminate=done | lost,
            result=optx.RESULTS.where(lost, optx.RESULTS.nonfinite, state.result),
            num_values=state.num_values + 1,
        )
        return unravel(best), new, aux

    def _absorb(
        self, state: _SimplexState, f: Scalar
    ) -> tuple[Float[Array, "n+1 n"], Float[Array, " n+1"], Int[Array, ""], Int[Array, ""]]:
        """Puts the evaluated point in its place and says what comes next."""
        n = state.best.size
        phase, values = state.phase, state.values
        order = jnp.argsort(values)
        worst, second, lowest = order[-1], order[-2] if n > 1 else order[-1], order[0]
        filling = (phase == _FILL) | (phase == _SHRINK)
        reflect = phase == _REFLECT
        expand = reflect & (f < values[lowest])
        take = reflect & ~expand & (f < values[second])
        outside = reflect & ~expand & ~take & (f < values[worst])
        inside = reflect & ~expand & ~take & ~outside
        take_reflected = (phase == _EXPAND) & ~(f < state.f_reflected)
        take |= (phase == _EXPAND) & ~take_reflected
        take |= (phase == _OUTSIDE) & (f <= state.f_reflected)
        take |= (phase == _INSIDE) & (f < values[worst])
        shrink = ((phase == _OUTSIDE) | (phase == _INSIDE)) & ~take

        place = jnp.where(filling, state.index, worst)
        write = filling | take | take_reflected
        vertex = jnp.where(take_reflected, state.reflected, state.trial)
        value = jnp.where(take_reflected, state.f_reflected, f)
        vertices = state.vertices.at[place].set(jnp.where(write, vertex, state.vertices[place]))
        values = values.at[place].set(jnp.where(write, value, values[place]))
        # A shrink moves all vertices towards the best, which goes to place 0 and keeps its value.
        swapped = vertices.at[0].set(vertices[lowest]).at[lowest].set(vertices[0])
        swapped_values = values.at[0].set(values[lowest]).at[lowest].set(values[0])
        delta = 1 - 1 / max(n, 2)
        shrunk = swapped[0] + delta * (swapped - swapped[0])
        vertices = jnp.where(shrink, shrunk, vertices)
        values = jnp.where(shrink, swapped_values, values)

        index = jnp.where(shrink, 1, state.index + filling.astype(state.index.dtype))
        still = filling & (index <= n)
        new_phase = jnp.where(expand, _EXPAND, jnp.where(outside, _OUTSIDE, jnp.where(inside, _INSIDE, _REFLECT)))
        new_phase = jnp.where(still, phase, jnp.where(shrink, _SHRINK, new_phase))
        return vertices, values, new_phase.astype(phase.dtype), index

    def terminate(
        self,
        fn: Callable,
        y: Y,
        args: PyTree,
        options: dict[str, Any],
        state: _SimplexState,
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        return state.terminate, state.result

    def postprocess(
        self,
        fn: Callable,
        y: Y,
        aux: Aux,
        args: PyTree,
        options: dict[str, Any],
        state: _SimplexState,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Y, Aux, dict[str, Any]]:
        zero = jnp.array(0)
        return y, aux, {"num_values": state.num_values, "num_gradients": zero, "num_hessians": zero}


def _first_size(x: Float[Array, " n"], options: dict[str, Any]) -> Float[Array, " n"]:
    size = options.get("step")
    if size is None:
        return jnp.where(x != 0, 0.1 * jnp.abs(x), 0.1)
    return jnp.broadcast_to(jnp.asarray(size, x.dtype), x.shape)


def _next_trial(
    vertices: Float[Array, "n+1 n"],
    values: Float[Array, " n+1"],
    phase: Int[Array, ""],
    index: Int[Array, ""],
    state: _SimplexState,
    f: Scalar,
) -> Float[Array, " n"]:
    n = vertices.shape[1]
    d = max(n, 2)
    worst = jnp.argmax(values)
    centroid = (jnp.sum(vertices, axis=0) - vertices[worst]) / n
    away = centroid - vertices[worst]
    # distance from the centroid along `away`: reflect 1, expand 1 + 2/n, contract 3/4 - 1/(2n)
    contract = 0.75 - 0.5 / d
    factors = jnp.array([0.0, 1.0, 1.0 + 2.0 / d, contract, -contract, 0.0], vertices.dtype)
    filling = (phase == _FILL) | (phase == _SHRINK)
    return jnp.where(filling, vertices[jnp.minimum(index, n)], centroid + factors[phase] * away)
