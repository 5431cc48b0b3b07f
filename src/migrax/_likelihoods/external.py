"""Likelihoods from outside of JAX that provide their own gradient: RooFit, a C++ or Fortran library, NumPy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Scalar

from .._hints.calls import check_callable
from .._parameters.resolve import resolve
from .._parameters.select import Where, pick_values
from .._parameters.space import ravel, resolve_at
from .._util.typing import PyTree
from .constraint import static_where
from .own_draws import AbstractWithOwnDraws, check_draws

_TOLERANCE = 0.05  # relative, between a change of the value and the integral of its gradient


class External(AbstractWithOwnDraws):
    """A likelihood from outside of JAX that returns its value and its exact gradient.

    ```python
    def value_and_gradient(x, data):  # NumPy arrays, in and out
        pull = (data - x[0]) / x[1]
        value = 0.5 * np.sum(pull**2) + data.size * np.log(x[1])
        return value, np.array([-np.sum(pull), data.size - np.sum(pull**2)]) / x[1]


    nll = mx.External(value_and_gradient, where=["mu", "sigma"])
    mx.fit(nll, {"mu": mx.Parameter(0.0), "sigma": mx.Parameter(1.0, lower=0.0)}, data)
    ```

    Compiled programs call the function on the host, also under `jax.jit` and `jax.vmap` (there for one fit after the
    other). It may be a term of `mx.Joint`, or be added to a likelihood of migrax by `+`. Second derivatives are
    fourth-order differences of its gradients, which take about seven gradients per parameter;
    `result.covariance.accuracy` estimates the accuracy of the errors.

    **Arguments:**

    - `value_and_gradient`: minus the log of the likelihood with its gradient, `f(x, data) -> (value, gradient)`,
        where `x` and `gradient` are NumPy arrays of shape `(n,)`, in the order of `where`. Without `where` it is called
        as `f(params, data)` with the resolved tree of parameters, and the gradient is a tree of the same structure, or
        a flat array in the order of the tree. It must not call JAX.
    - `where`: the parameters that it takes, names or functions that pick nodes, as for `mx.NormalConstraint`; `None`:
        all of them.
    - `sample`: `sample(params, key) -> data`, one toy, written in JAX; `None`: toys cannot be drawn.
    - `expected_data`: `expected_data(params) -> data`, the Asimov data, written in JAX.

    The data are passed as NumPy arrays. The fitted values can be differentiated with respect to bounds and to the
    contents of other terms of a `Joint`, but not with respect to the data of this term (`TypeError`). The derivatives
    of their errors are NaN.

    **Raises:** `TypeError` for functions that cannot be called this way; `ValueError` (as JAX's runtime error, with its
    location) for a gradient of another shape.

    **Warns**, from `mx.fit`, if the gradient does not agree with the value.
    """

    value_and_gradient: Callable[[Any, Any], Any] = eqx.field(static=True)
    where: Where | None = eqx.field(static=True)
    _sample: Callable[[Any, Array], Any] | None
    _expected_data: Callable[[Any], Any] | None

    def __init__(
        self,
        value_and_gradient: Callable[[Any, Any], Any],
        where: Where | None = None,
        *,
        sample: Callable[[Any, Array], Any] | None = None,
        expected_data: Callable[[Any], Any] | None = None,
    ):
        check_callable(value_and_gradient, "the function of External", "value_and_gradient(x, data)")
        check_draws(sample, expected_data, "External")
        self.value_and_gradient = value_and_gradient
        self.where = None if where is None else static_where(where)
        self._sample, self._expected_data = sample, expected_data

    def __call__(self, params: PyTree, data: PyTree) -> Scalar:
        """The value, from one callback, which provides its gradient, too."""
        diff, nondiff = eqx.partition(self._arguments(params), eqx.is_inexact_array)
        if not jax.tree.leaves(diff):
            raise TypeError("External takes parameters, and there is no number among these")
        return _value(self.value_and_gradient, diff, nondiff, data)

    def _arguments(self, params: PyTree) -> PyTree:
        params = resolve(params)
        return params if self.where is None else pick_values(params, self.where).values

    def complaints(self, params: PyTree, data: PyTree) -> list[str]:
        """Compare the change of the value over about one error with the integral of the gradient."""
        x, space = ravel(params)
        start, lower, upper = (np.asarray(a, dtype=float) for a in (x, space.lower, space.upper))

        def evaluate(point: np.ndarray) -> "_Point":
            tree = self._arguments(resolve_at(params, jnp.asarray(point, x.dtype)))
            diff, nondiff = eqx.partition(tree, eqx.is_inexact_array)
            value, gradient = _call_on_host(self.value_and_gradient, _numpy(diff), nondiff, _numpy(data))
            flat = [np.asarray(ravel_pytree(a)[0], dtype=float) for a in (diff, gradient)]
            return _Point(float(value), *flat)

        mismatches, origin = [], evaluate(start)
        for i, name in enumerate(space.names):
            above, below = upper[i] - start[i], start[i] - lower[i]
            side, room = (1, above) if above >= below else (-1, below)
            step = (
                side * np.eye(start.size)[i] * _step(evaluate, origin, start, side * np.eye(start.size)[i], 0.5 * room)
            )
            middle, end = evaluate(start + 0.5 * step), evaluate(start + step)
            change = end.value - origin.value
            # Simpson's rule: the arguments of External are linear in the parameters
            integral = (origin.gradient + 4 * middle.gradient + end.gradient) @ (end.arguments - origin.arguments) / 6
            if abs(change - integral) > _TOLERANCE * max(abs(change), abs(integral)) + 1e-9 * abs(origin.value):
                mismatches.append(
                    f"from {name} = {start[i]:.6g} to {(start + step)[i]:.6g} the value changes by {change:.6g}, "
                    f"by its gradient it would by {integral:.6g}"
                )
        if not mismatches:
            return []
        return [
            f"the gradient of External is not that of its value: {'; '.join(mismatches)}. Values and errors are wrong"
        ]


class _Point(NamedTuple):
    """The arguments and the results of the user's function at a point."""

    value: float
    arguments: np.ndarray
    gradient: np.ndarray


def _step(
    evaluate: Callable[[np.ndarray], _Point], origin: _Point, start: np.ndarray, unit: np.ndarray, room: float
) -> float:
    """Estimate the length of one error along a unit vector from the change of the gradient."""
    small = min(1e-4 * (abs(float(start @ unit)) or 1.0), room)
    beside = evaluate(start + small * unit)
    curvature = (beside.gradient - origin.gradient) @ (beside.arguments - origin.arguments) / small**2
    error = 1 / abs(float(curvature)) ** 0.5 if curvature else 10 * small
    return min(error, room)


@eqx.filter_custom_jvp
def _value(fn: Callable, diff: PyTree, nondiff: PyTree, data: PyTree) -> Scalar:
    return _callback(fn, diff, nondiff, data)[0]


@_value.def_jvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    fn, diff, nondiff, data = primals
    _, t_diff, _, t_data = tangents
    if jax.tree.leaves(t_data):
        raise TypeError("a fit of External cannot be differentiated with respect to its data")
    value, gradient = _callback(fn, diff, nondiff, data)
    parts = jax.tree.map(lambda g, t: 0.0 if t is None else jnp.sum(g * t), gradient, t_diff)
    return value, jnp.asarray(sum(jax.tree.leaves(parts)), value.dtype)


def _callback(fn: Callable, diff: PyTree, nondiff: PyTree, data: PyTree) -> tuple[Scalar, PyTree]:
    arrays, static = eqx.partition((nondiff, data), eqx.is_array)
    dtype = jnp.result_type(*jax.tree.leaves(diff))
    shape = jax.ShapeDtypeStruct((), dtype), jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), diff)

    def call(diff: PyTree, arrays: PyTree) -> tuple[np.ndarray, PyTree]:
        nondiff, data = eqx.combine(_numpy(arrays), static)
        value, gradient = _call_on_host(fn, _numpy(diff), nondiff, data)
        return np.asarray(value, dtype), jax.tree.map(lambda g, s: np.asarray(g, s.dtype), gradient, shape[1])

    return jax.pure_callback(call, shape, diff, arrays, vmap_method="sequential")


def _call_on_host(fn: Callable, diff: PyTree, nondiff: PyTree, data: PyTree) -> tuple[np.ndarray, PyTree]:
    """Call the user's function. The gradient has the structure of `diff`.

    **Raises:** `TypeError` or `ValueError` unless a value and a gradient are returned.
    """
    returned = fn(eqx.combine(diff, nondiff), data)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise TypeError(f"the function of External must return (value, gradient), got {type(returned).__name__}")
    value, gradient = returned
    if np.shape(value) != ():
        raise ValueError(f"the value of External must be one number, got shape {np.shape(value)}")
    tree = eqx.combine(diff, nondiff)
    arrays, structure = jax.tree.flatten(diff)
    sizes = [np.size(a) for a in arrays]
    if jax.tree.structure(gradient) == jax.tree.structure(tree):
        leaves = eqx.filter(gradient, jax.tree.map(eqx.is_inexact_array, tree))
        if [np.shape(g) for g in jax.tree.leaves(leaves)] == [np.shape(a) for a in arrays]:
            return np.asarray(value), leaves
    flat = np.ravel(gradient) if jax.tree_util.all_leaves([gradient]) or isinstance(gradient, list | tuple) else None
    if flat is None or flat.size != sum(sizes):
        got = f"an array of shape {np.shape(gradient)}" if flat is not None else f"a {type(gradient).__name__}"
        raise ValueError(
            f"the gradient of External must have {sum(sizes)} numbers, one a parameter, or the tree of the parameters; "
            f"got {got}"
        )
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return np.asarray(value), structure.unflatten(
        [np.reshape(p, np.shape(a)) for p, a in zip(parts, arrays, strict=True)]
    )


def _numpy(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: np.asarray(a) if eqx.is_array(a) else a, tree)
