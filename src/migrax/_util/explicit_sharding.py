"""Arrays whose sharding is part of their type (`AxisType.Explicit`, what `jax.make_mesh` gives): programs of fits run
with the same arrays over the same devices, but XLA decides where everything inside is.

Loops, conversions to a jaxpr and lanes of a `vmap` need values whose types agree, which those that come from sharded
data and those that do not never do.
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
    """The mesh of an array whose sharding is part of its type, or the one that `jax.set_mesh` has set."""
    here = jax.sharding.get_abstract_mesh()
    if _is_explicit(here):
        return here
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and _may_be_explicit(leaf):
            mesh = jax.typeof(leaf).sharding.mesh
            if _is_explicit(mesh):
                return mesh
    return None


def _may_be_explicit(leaf: jax.Array) -> bool:
    """A quick look at the array itself, as most are on one device."""
    return not is_concrete(leaf) or type(leaf.sharding) is not SingleDeviceSharding


def _is_explicit(mesh: AbstractMesh | Mesh) -> bool:
    return AxisType.Explicit in mesh.axis_types


def where_xla_decides(fn: Callable[[PyTree], T], mesh: AbstractMesh, tree: PyTree) -> T:
    """`fn(tree)`, with the axes of `mesh` in the hands of XLA; all of what it returns is everywhere."""
    arrays, rest = eqx.partition(tree, _has_explicit_type)
    leaves = jax.tree.leaves(arrays)
    if is_concrete(jnp.asarray(0.0), *leaves):
        return _called_directly(lambda arrays: fn(eqx.combine(arrays, rest)), mesh, arrays)
    return _traced(lambda arrays: fn(eqx.combine(arrays, rest)), mesh, arrays)


def without_explicit_types(fn: Callable[..., T], *args: Any) -> T:
    """`fn(*args)`, for code outside of compiled programs: arrays come as those of other meshes do."""
    mesh = explicit_mesh(jax.tree.leaves(args))
    return fn(*args) if mesh is None else where_xla_decides(lambda args: fn(*args), mesh, args)


def _has_explicit_type(x: Any) -> bool:
    return isinstance(x, jax.Array) and _is_explicit(jax.typeof(x).sharding.mesh)


def _types(mesh: AbstractMesh | Mesh, old: AxisType, new: AxisType) -> tuple[AxisType, ...]:
    return tuple(new if kind == old else kind for kind in mesh.axis_types)


def _called_directly(fn: Callable[[PyTree], PyTree], mesh: AbstractMesh, arrays: PyTree) -> PyTree:
    """Arrays stay where they are: only what their type says changes."""

    def retyped(a: Any, old: AxisType, new: AxisType, spec: PartitionSpec | None) -> Any:
        if not isinstance(a, jax.Array) or not isinstance(a.sharding, NamedSharding):
            return a
        before = a.sharding.mesh
        assert isinstance(before, Mesh)  # abstract ones are of tracers
        after = Mesh(before.devices, before.axis_names, axis_types=_types(before, old, new))
        return jax.device_put(a, NamedSharding(after, a.sharding.spec if spec is None else spec))

    arrays = jax.tree.map(lambda a: retyped(a, AxisType.Explicit, AxisType.Auto, None), arrays)
    if _is_explicit(jax.sharding.get_abstract_mesh()):
        with jax.sharding.use_abstract_mesh(_automatic(mesh)):
            found = fn(arrays)
    else:
        found = fn(arrays)
    return jax.tree.map(lambda a: retyped(a, AxisType.Auto, AxisType.Explicit, PartitionSpec()), found)


def _automatic(mesh: AbstractMesh) -> AbstractMesh:
    return mesh.update(axis_types=_types(mesh, AxisType.Explicit, AxisType.Auto))


def _traced(fn: Callable[[PyTree], PyTree], mesh: AbstractMesh, arrays: PyTree) -> PyTree:
    with jax.sharding.use_abstract_mesh(mesh):
        with jax.sharding.use_abstract_mesh(_automatic(mesh)):
            arrays = jax.tree.map(lambda a: jax.sharding.reshard(a, PartitionSpec()), arrays)
            found, rest = eqx.partition(fn(arrays), lambda x: isinstance(x, jax.Array))
        found = jax.tree.map(lambda a: jax.sharding.reshard(a, PartitionSpec()), found)
    return eqx.combine(found, rest)
