"""Toys over many devices, of one process or several: each device fits its part of a batch independently."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from .._util.typing import PyTree


def as_mesh(mesh: Any) -> Mesh | None:
    """Returns the mesh with automatic axes, where XLA and not the types of the arrays decides on the placement.

    **Raises:** `TypeError` if it is not a mesh, `ValueError` if it has devices that this program does not have."""
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh, such as jax.make_mesh((jax.device_count(),), ('toys',)), got "
            f"{type(mesh).__name__}"
        )
    known = set(jax.devices(mesh.devices.flat[0].platform))
    strange = [str(device) for device in mesh.devices.flat if device not in known]
    if strange:
        raise ValueError(f"the mesh has devices that are not among jax.devices(): {', '.join(strange)}")
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def mesh_of(arrays: list[Any]) -> Mesh | None:
    """Returns the mesh of `jax.set_mesh`, else the one over which some of the arrays are spread, else `None`."""
    sharding = jnp.zeros(()).sharding  # of the mesh that is set, if any
    if isinstance(sharding, NamedSharding):
        return sharding.mesh if isinstance(sharding.mesh, Mesh) else None
    for a in arrays:
        if isinstance(a, jax.Array) and len(a.sharding.device_set) > 1:
            if isinstance(a.sharding, NamedSharding) and isinstance(a.sharding.mesh, Mesh):
                return a.sharding.mesh
            devices = sorted(a.sharding.device_set, key=lambda device: device.id)
            return Mesh(np.array(devices), ("toys",))
    return None


def on_one_device(tree: PyTree) -> PyTree:
    """Moves arrays that are spread over several devices of this process to the first of them."""

    def moved(a: Any) -> Any:
        if not isinstance(a, jax.Array) or len(a.sharding.device_set) == 1 or not a.is_fully_addressable:
            return a
        return jax.device_put(a, min(a.sharding.device_set, key=lambda device: device.id))

    return jax.tree.map(moved, tree)


def over_lanes(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """Spreads the leading axis of the arrays over the devices."""
    return _put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


def everywhere(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """Copies the arrays, which are the same in all processes, to each device."""
    return _put(tree, None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def _put(tree: PyTree, sharding: NamedSharding | None) -> PyTree:
    if sharding is None:
        return tree
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda a: _put_array(a, sharding), arrays), rest)


def _put_array(a: Any, sharding: NamedSharding) -> Array:
    if jax.process_count() == 1:
        return jax.device_put(a, sharding)
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put_array(jax.random.key_data(a), sharding), impl=jax.random.key_impl(a))
    if isinstance(a, jax.Array) and not a.is_fully_addressable:  # already spread over all processes
        return jax.device_put(a, sharding)
    values = np.asarray(a)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def gathered(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """Copies the arrays to each device, so that each process can read all of their values."""
    if mesh is None:
        return tree
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(_gather(mesh)(arrays), rest)


def agreed(mesh: Mesh | None, which: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Returns the entries that are true in all processes."""
    if mesh is None or jax.process_count() == 1:
        return which
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    rows = jax.make_array_from_callback(
        (mesh.size, which.size), sharding, lambda index: np.broadcast_to(which, (mesh.size, which.size))[index]
    )
    return np.asarray(jnp.all(gathered(mesh, rows), axis=0))


@functools.cache
def _gather(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))


def shard_lanes(mesh: Mesh, fn: Callable[[PyTree, PyTree], PyTree]) -> Callable[[PyTree, PyTree], PyTree]:
    """Returns `fn` with each device working on its part of the lanes: loops end on a device when its lanes are done."""
    lanes = PartitionSpec(mesh.axis_names)

    def call(shared: PyTree, toys: PyTree) -> PyTree:
        dynamic, static = eqx.partition(shared, eqx.is_array)
        out_static: list[PyTree] = []

        def local(dynamic: PyTree, toys: PyTree) -> PyTree:
            arrays, rest = eqx.partition(fn(eqx.combine(dynamic, static), toys), eqx.is_array)
            out_static.append(rest)
            return arrays

        # without check_vma, which rejects loops whose start is the same on all devices and whose end is not
        mapped = jax.shard_map(local, mesh=mesh, in_specs=(PartitionSpec(), lanes), out_specs=lanes, check_vma=False)
        arrays = mapped(dynamic, toys)
        return eqx.combine(arrays, out_static[0])

    return call
