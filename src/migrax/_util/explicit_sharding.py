"""Arrays whose sharding is part of their type (`AxisType.Explicit`, as from `jax.make_mesh`): programs of fits run with
the same arrays on the same devices, but XLA decides on the placement of everything inside.

Loops, conversions to a jaxpr and lanes of a `vmap` need values whose types agree, but the types of values that come
from sharded data never agree with those of other values.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from .tracing import is_concrete
from .typing import PyTree

T = TypeVar("T")


def explicit_mesh(leaves: list[Any]) -> AbstractMesh | None:
    """Returns the mesh of `jax.set_mesh`, or of an array whose sharding is part of its type; else `None`."""
    current_mesh = jax.sharding.get_abstract_mesh()
    if _is_explicit(current_mesh):
        return current_mesh
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and _may_be_explicit(leaf):
            mesh = jax.typeof(leaf).sharding.mesh
            if _is_explicit(mesh):
                return mesh
    return None


def _may_be_explicit(leaf: jax.Array) -> bool:
    """Returns whether the sharding may be explicit: a quick test, because most arrays are on one device."""
    return not is_concrete(leaf) or type(leaf.sharding) is not SingleDeviceSharding


def _is_explicit(mesh: AbstractMesh | Mesh) -> bool:
    return AxisType.Explicit in mesh.axis_types


def where_xla_decides(fn: Callable[[PyTree], T], mesh: AbstractMesh, tree: PyTree) -> T:
    """Returns `fn(tree)`, run with automatic axes in place of those of `mesh`; the results are replicated."""
    arrays, rest = eqx.partition(tree, _has_explicit_type)
    leaves = jax.tree.leaves(arrays)
    if is_concrete(jnp.asarray(0.0), *leaves):
        return _call_directly(lambda arrays: fn(eqx.combine(arrays, rest)), mesh, arrays)
    return _call_traced(lambda arrays: fn(eqx.combine(arrays, rest)), mesh, arrays)


def without_explicit_types(fn: Callable[..., T], *args: Any) -> T:
    """Returns `fn(*args)` for code outside of compiled programs, run with arrays whose axes are automatic."""
    mesh = explicit_mesh(jax.tree.leaves(args))
    return fn(*args) if mesh is None else where_xla_decides(lambda args: fn(*args), mesh, args)


def _has_explicit_type(x: Any) -> bool:
    return isinstance(x, jax.Array) and _is_explicit(jax.typeof(x).sharding.mesh)


def _types(mesh: AbstractMesh | Mesh, old: AxisType, new: AxisType) -> tuple[AxisType, ...]:
    return tuple(new if kind == old else kind for kind in mesh.axis_types)


def _call_directly(fn: Callable[[PyTree], PyTree], mesh: AbstractMesh, arrays: PyTree) -> PyTree:
    """Calls `fn` with arrays of other types; the arrays themselves stay in place."""

    def retyped(a: Any, old: AxisType, new: AxisType, spec: PartitionSpec | None) -> Any:
        if not isinstance(a, jax.Array) or not isinstance(a.sharding, NamedSharding):
            return a
        old_mesh = a.sharding.mesh
        assert isinstance(old_mesh, Mesh)  # only tracers have abstract meshes
        new_mesh = Mesh(old_mesh.devices, old_mesh.axis_names, axis_types=_types(old_mesh, old, new))
        return jax.device_put(a, NamedSharding(new_mesh, a.sharding.spec if spec is None else spec))

    arrays = jax.tree.map(lambda a: retyped(a, AxisType.Explicit, AxisType.Auto, None), arrays)
    if _is_explicit(jax.sharding.get_abstract_mesh()):
        with jax.sharding.use_abstract_mesh(_automatic(mesh)):
            results = fn(arrays)
    else:
        results = fn(arrays)
    return jax.tree.map(lambda a: retyped(a, AxisType.Auto, AxisType.Explicit, PartitionSpec()), results)


def _automatic(mesh: AbstractMesh) -> AbstractMesh:
    return mesh.update(axis_types=_types(mesh, AxisType.Explicit, AxisType.Auto))


def _call_traced(fn: Callable[[PyTree], PyTree], mesh: AbstractMesh, arrays: PyTree) -> PyTree:
    with jax.sharding.use_abstract_mesh(mesh):
        with jax.sharding.use_abstract_mesh(_automatic(mesh)):
            arrays = jax.tree.map(lambda a: jax.sharding.reshard(a, PartitionSpec()), arrays)
            results, rest = eqx.partition(fn(arrays), lambda x: isinstance(x, jax.Array))
        results = jax.tree.map(lambda a: jax.sharding.reshard(a, PartitionSpec()), results)
    return eqx.combine(results, rest)
