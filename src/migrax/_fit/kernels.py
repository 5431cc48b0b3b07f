"""The programs of an objective: its value, gradient and Hessian, for an algorithm that runs on the host.

The Hessian of many parameters is made in blocks: the gradient's derivatives along some parameters at a time, as many as
the compiled program has memory for.
"""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, Float

from .._solvers.flat import MANY
from .._solvers.tangents import BUDGET, bytes_of_one, tangents_at_once
from .._util.jit import jit_quick
from .._util.memory import free_host_bytes

_NUMBERS = 2  # value and gradient; the Hessian and what depends on the data alone come after them


class Kernels:
    """Programs that are compiled at their first call.

    **Arguments:**

    - `closed`: the jaxpr of value, gradient, Hessian and what depends on the data alone, of `(x, *leaves)`.
    - `gradient`: the function `(x, leaves)` whose derivative is the Hessian.
    - `residuals`: the jaxpr of residuals and their Jacobian, if there are any.
    """

    def __init__(self, closed: Any, gradient: Callable[[Array, Any], Array], residuals: Any):
        self._closed, self._gradient, self._residuals = closed, gradient, residuals
        self._n, self._dtype = closed.jaxpr.invars[0].aval.size, closed.jaxpr.invars[0].aval.dtype
        evaluate = jaxpr_as_fun(closed)
        # Where there are many parameters, a program runs for longer than it takes to compile.
        self._jit: Any = jit_quick if self._n < MANY else jax.jit

        def of_data(*inputs: Any) -> list[Array]:
            return evaluate(*inputs)[_NUMBERS + 1 :]

        def value(*inputs: Any) -> list[Array]:
            return evaluate(*inputs)[:1]

        def value_and_gradient(*inputs: Any) -> list[Array]:
            return evaluate(*inputs)[:_NUMBERS]

        def expansion(*inputs: Any) -> list[Array]:
            return evaluate(*inputs)[: _NUMBERS + 1]

        def jacobian(*inputs: Any) -> list[Array]:
            return jaxpr_as_fun(residuals)(*inputs)

        self._of_data = jax.jit(of_data)
        self.value = self._jit(value)
        self.value_and_gradient = self._jit(value_and_gradient)
        self._whole = self._jit(expansion)
        self.jacobian = None if residuals is None else self._jit(jacobian)
        self._block: tuple[int, Any] | None = None
        self._shared: tuple[Callable[..., list[Any]], Callable[..., Any]] | None = None
        self._lock = threading.Lock()

    def of_data(self, x: Any, *leaves: Any) -> list[Any]:
        """What depends on the data alone: it is compiled, and so is for data that are too long for NumPy."""
        return [np.asarray(out)[()] for out in self._of_data(x, *leaves)]

    def expansion(self, x: Any, *leaves: Any) -> tuple[Any, Any, Any]:
        """Value, gradient and Hessian."""
        if self._n < MANY:
            return self._whole(x, *leaves)
        return *self.value_and_gradient(x, *leaves), self._in_blocks(x, leaves)

    def product_at(self, x: Any, *leaves: Any) -> Callable[[Any], Any]:
        """The function that multiplies a vector by the Hessian at `x`. What does not depend on the vector is computed
        once."""
        prepare, apply = self._linear(x, leaves)
        known = prepare(x, *leaves)
        return lambda v: apply(v, *known)

    def _linear(self, x: Any, leaves: Any) -> tuple[Callable[..., list[Any]], Callable[..., Any]]:
        """Programs of what the products at a point share, and of one product. The Hessian is symmetric, so its product
        is the pullback of the gradient, which JAX gives as a tree of arrays: those that are inputs are not copied."""
        with self._lock:
            if self._shared is None:
                treedef = None

                def shared(x: Array, *leaves: Array) -> list[Array]:
                    nonlocal treedef
                    arrays, treedef = jax.tree.flatten(jax.vjp(lambda x: self._gradient(x, leaves), x)[1])
                    return arrays

                try:
                    closed = jax.make_jaxpr(shared)(x, *leaves)
                    jax.eval_shape(lambda x, *leaves: jax.vjp(lambda x: self._gradient(x, leaves), x)[1](x), x, *leaves)
                except (TypeError, ValueError, NotImplementedError):  # no reverse mode of the gradient
                    along = self._jit(lambda v, x, *leaves: self._product(x, v, *leaves))
                    self._shared = (lambda *given: list(given)), along
                    return self._shared
                inputs = {id(v): i for i, v in enumerate(closed.jaxpr.invars)}
                places = [inputs.get(id(v)) for v in closed.jaxpr.outvars]
                made = [i for i, place in enumerate(places) if place is None]

                def shared_by_products(*given: Any) -> list[Array]:
                    return [jaxpr_as_fun(closed)(*given)[i] for i in made]

                compute = self._jit(shared_by_products)

                def prepare(*given: Any) -> list[Any]:
                    computed = iter(compute(*given))
                    return [next(computed) if place is None else given[place] for place in places]

                def product(v: Array, *arrays: Array) -> Array:
                    return jax.tree.unflatten(treedef, arrays)(v)[0]

                apply = self._jit(product)
                self._shared = prepare, apply
            return self._shared

    def _product(self, x: Array, v: Array, *leaves: Array) -> Array:
        return jax.jvp(lambda x: self._gradient(x, leaves), (x,), (v,))[1]

    def _rows(self, x: Array, vectors: Float[Array, "k n"], *leaves: Array) -> Float[Array, "k n"]:
        return jax.vmap(lambda v: self._product(x, v, *leaves))(vectors)

    def _in_blocks(self, x: Any, leaves: Any) -> Float[np.ndarray, "n n"]:
        size, program = self._compiled(x, leaves)
        n = self._n
        hessian = np.empty((n, n), self._dtype)
        for first in range(0, n, size):
            rows = program(x, jnp.asarray(np.eye(size, n, first, dtype=self._dtype)), *leaves)
            hessian[first : first + size] = np.asarray(rows)[: n - first]
        hessian += hessian.T
        hessian *= 0.5
        return hessian

    def _compiled(self, x: Any, leaves: Any) -> tuple[int, Any]:
        """The number of rows in a block, and its program, which keeps to the budget by the compiler's own figure."""
        with self._lock:
            if self._block is None:
                budget = min(BUDGET, free_host_bytes() // 8)
                v = jax.ShapeDtypeStruct((self._n,), self._dtype)
                size = tangents_at_once(self._n, bytes_of_one(self._product, x, v, *leaves), budget)
                while True:
                    block = jax.ShapeDtypeStruct((size, self._n), self._dtype)
                    program = self._jit(self._rows).lower(x, block, *leaves).compile()
                    figures = program.memory_analysis()
                    needed = 0 if figures is None else figures.temp_size_in_bytes
                    if needed <= budget or size == 1:
                        break
                    size = max(1, min(size // 2, int(size * budget / needed)))
                self._block = size, program
            return self._block
