"""`Parameter`, the mark that says "this array floats", and what turns trees of them into names and values."""

import difflib
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from . import _other_names
from ._hints import given
from ._typing import PyTree

Where: TypeAlias = str | Callable[[Any], Any] | Sequence["str | Callable[[Any], Any]"]


class Parameter(eqx.Module):
    """An array that a fit may change, with optional bounds, or with a period.

    ```python
    class Peak(eqx.Module):
        mu: mx.Parameter
        sigma: mx.Parameter


    model = Peak(mx.Parameter(1.0), mx.Parameter(2.0, lower=0.0))
    ```

    A parameter's name is its path in the tree: `mu`, `signal.mu`, `gamma[3]`. When a likelihood is called, each
    `Parameter` has been replaced by its array ("resolved"): the body of a model says `self.mu`, never `self.mu.value`.

    A phase has a `period`: `mx.Parameter(0.0, period=2 * jnp.pi)` has no bounds, and is reported within one period,
    [-period/2, period/2), or [lower, lower + period) with a `lower`.

    Whether a bound or a period is there and whether the parameter is fixed are structure (a change may retrace a jitted
    fit); the value, the bounds and the period are arrays (a change never retraces, and all may be traced and vmapped).
    """

    value: Array
    lower: Array | None
    upper: Array | None
    fixed: bool | tuple[bool, ...] = eqx.field(static=True)
    period: Array | None

    @_other_names.keywords(_other_names.PARAMETER)
    def __init__(
        self,
        value: ArrayLike,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        fixed: bool | Sequence[bool] | np.ndarray = False,
        period: ArrayLike | None = None,
    ):
        """**Arguments:**

        - `value`: the start value, a float or an array of floats of any shape.
        - `lower`, `upper`: the bounds, in the units of `value` and broadcastable to its shape. `None`: no bound.
            An infinite entry: no bound for that entry.
        - `fixed`: if `True` the fit leaves the value alone. An array of bools of the shape of `value` fixes some
            entries; the attribute then is a tuple of them, row by row.
        - `period`: after which the likelihood repeats itself, in the units of `value` and broadcastable to its shape.
            An infinite entry: that entry is not periodic. Fits, toys and refits report the parameter in
            [-period/2, period/2). With a `lower`, which then is no bound, in [lower, lower + period). The start may lie
            anywhere, a period takes no `upper`. A fit to a likelihood that does not have the period (a Gaussian
            constraint on a phase has none) is valid only where its minimum lies within these limits.

        **Raises:**

        - `TypeError`: `value` holds integers, booleans or complex numbers; `fixed` is not bool.
        - `ValueError`: `fixed` has another shape; a bound or a period does not broadcast to the value or is NaN; the
            lower bound is not below the upper; a period is not positive, or stands beside an upper bound.
        """
        self.value = _floating(value)
        self.lower = None if lower is None else _bound(lower, "lower", self.value)
        self.upper = None if upper is None else _bound(upper, "upper", self.value)
        self.fixed = _flags(fixed, jnp.shape(self.value))
        self.period = None if period is None else _bound(period, "period", self.value)

    def __repr__(self) -> str:
        arrays = {"lower": self.lower, "upper": self.upper, "period": self.period}
        if not is_concrete(self.value, *arrays.values()):
            return f"Parameter(traced, shape={jnp.shape(self.value)}, fixed={self.fixed})"
        bounds = "".join(f", {name}={_show(bound)}" for name, bound in arrays.items() if bound is not None)
        fixed = "" if self.fixed is False else f", fixed={self.fixed}"
        return f"Parameter({_show(self.value)}{bounds}{fixed})"

    def __check_init__(self) -> None:
        if self.period is not None:
            if self.upper is not None:
                raise ValueError(
                    "a parameter with a period takes no upper bound: it is reported in [lower, lower + period). If it "
                    "cannot go all round, give both bounds and no period"
                )
            if is_concrete(self.period) and not np.all(np.asarray(self.period) > 0):
                raise ValueError(f"the period must be positive, got {_show(self.period)}")
            if self.lower is not None and is_concrete(self.lower) and not np.all(np.isfinite(np.asarray(self.lower))):
                raise ValueError(
                    f"the lower end of a period must be finite, got {_show(self.lower)}; leave it out for -period/2"
                )
        if self.lower is not None and self.upper is not None and is_concrete(self.lower, self.upper):
            lower, upper = np.broadcast_arrays(np.asarray(self.lower), np.asarray(self.upper))
            if np.any(lower >= upper):
                raise ValueError(
                    f"the lower bound must be below the upper bound, got {_show(lower)} and {_show(upper)}"
                )


def is_parameter(node: Any) -> bool:
    return isinstance(node, Parameter)


def bounds_of(leaf: Any) -> tuple[Array | None, Array | None]:
    """The bounds of a leaf: none, unless it is a `Parameter` without a period, whose lower end is no bound."""
    return (leaf.lower, leaf.upper) if is_parameter(leaf) and leaf.period is None else (None, None)


def is_concrete(*arrays: Any) -> bool:
    """Whether the values can be looked at now (they are not tracers of jit, vmap or grad)."""
    return not any(isinstance(x, Tracer) for x in arrays)


def _show(x: Any) -> str:
    return np.array2string(np.asarray(x), threshold=8)


def _floating(value: ArrayLike) -> Array:
    if isinstance(value, str):
        raise TypeError(
            f"a Parameter begins with its value, got {str(value)!r}: its name is its place in the tree, such as the "
            f"key in {{{str(value)!r}: mx.Parameter(1.0)}}"
        )
    if not isinstance(value, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
        value = np.asarray(value)
    dtype = jnp.result_type(value)
    if not jnp.issubdtype(dtype, jnp.floating):
        hint = f"; write {float(value)!r}" if isinstance(value, int) and not isinstance(value, bool) else ""
        raise TypeError(f"a Parameter holds floating-point numbers, got {_brief(value)} of dtype {dtype}{hint}")
    return jnp.asarray(value, dtype=dtype)


def _flags(fixed: Any, shape: tuple[int, ...]) -> bool | tuple[bool, ...]:
    """`True` or `False` where they are all the same, else one for each entry."""
    flags = np.asarray(fixed)
    if flags.dtype != bool:
        raise TypeError(f"fixed must be True or False, or an array of them; got {fixed!r}")
    if flags.shape not in ((), shape) and flags.shape != (int(np.prod(shape)),):
        raise ValueError(f"fixed has shape {flags.shape}, the value {shape}")
    if flags.size == 0:
        return False
    return bool(flags.flat[0]) if np.all(flags == flags.flat[0]) else tuple(bool(f) for f in flags.flat)


def _brief(value: Any) -> str:
    return f"shape {np.shape(value)}" if np.size(value) > 4 else str(value)


def _fits(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, into) == into
    except ValueError:
        return False


def _word(which: str) -> str:
    return "" if which == "period" else " bound"


def _bound(bound: ArrayLike, which: str, value: Array) -> Array:
    if isinstance(bound, str):
        raise TypeError(
            f"the {which}{_word(which)} is {bound!r}: a parameter has no name of its own, its path in the tree is it"
        )
    if isinstance(bound, tuple | list) and value.ndim == 0:
        raise TypeError(
            f"the {which}{_word(which)} is {bound}: give two numbers, mx.Parameter(value, lower=..., upper=...)"
        )
    if not _fits(np.shape(bound), value.shape):
        raise ValueError(
            f"the {which}{_word(which)} of shape {np.shape(bound)} does not broadcast to the value's {value.shape}"
        )
    if is_concrete(bound) and np.any(np.isnan(np.asarray(bound, dtype=float))):
        raise ValueError(f"the {which}{_word(which)} is NaN; leave it out for no bound")
    return jnp.asarray(bound, dtype=value.dtype)


class Slot(NamedTuple):
    """Where one parameter stands in the tree of a fit. Static: shapes and names, no values."""

    name: str
    shape: tuple[int, ...]
    fixed: bool | tuple[bool, ...]  # as in `Parameter`
    leaf: int  # index in the flattened tree

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    @property
    def free(self) -> np.ndarray:
        """Which of the entries, row by row, are free."""
        return ~np.broadcast_to(np.asarray(self.fixed), (self.size,))

    @property
    def partly(self) -> bool:
        """Whether some entries are fixed, and some free."""
        return isinstance(self.fixed, tuple)

    def free_names(self) -> list[str]:
        return [name for name, free in zip(self.element_names(), self.free, strict=True) if free]

    def element_names(self) -> list[str]:
        if self.shape == ():
            return [self.name]
        return [f"{self.name}[{','.join(map(str, index))}]" for index in np.ndindex(*self.shape)]


def _path_name(path: tuple[Any, ...]) -> str:
    name = ""
    for key in path:
        if isinstance(key, jtu.GetAttrKey):
            name += f".{key.name}"
        elif isinstance(key, jtu.SequenceKey):
            name += f"[{key.idx}]"
        elif isinstance(key, jtu.DictKey | jtu.FlattenedIndexKey):
            name += f".{key.key}" if isinstance(key.key, str) else f"[{key.key}]"
        else:
            name += f".{key}"
    name = name.removeprefix(".")
    # A tree that is a bare array or a list has no word of its own for its entries.
    return f"x{name}" if name == "" or name.startswith("[") else name


def flatten(params: PyTree) -> tuple[list[Any], list[Slot], Any]:
    """The leaves of a tree (a `Parameter` counts as one), the slots of its parameters, and its structure.

    **Raises:** `ValueError` if one `Parameter` object stands at two paths, or two parameters have one name.
    """
    with_path, treedef = jtu.tree_flatten_with_path(params, is_leaf=is_parameter)
    leaves = [leaf for _, leaf in with_path]
    marked = any(is_parameter(leaf) for leaf in leaves)
    slots: list[Slot] = []
    seen: dict[int, str] = {}
    for i, (path, leaf) in enumerate(with_path):
        if is_parameter(leaf):
            name = _path_name(path)
            if id(leaf) in seen:
                raise ValueError(
                    f"the same Parameter object stands at {seen[id(leaf)]!r} and {name!r}: a pytree would copy "
                    "it into two. Keep it at one path and use it from there, or make two Parameters"
                )
            seen[id(leaf)] = name
            slots.append(Slot(name, jnp.shape(leaf.value), leaf.fixed, i))
        elif not marked and _floats(leaf):
            slots.append(Slot(_path_name(path), jnp.shape(leaf), False, i))
        elif not marked and isinstance(leaf, int | np.integer) and not isinstance(leaf, bool) and len(leaves) > 1:
            raise TypeError(
                f"{_path_name(path)!r} is the integer {leaf}: integers do not float. Write {float(leaf)}; or, for a "
                "constant, mark those that float with mx.Parameter"
            )
    names = [slot.name for slot in slots]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two parameters have the name {name!r}; give their dictionary keys different names")
    return leaves, slots, treedef


def _floats(leaf: Any) -> bool:
    if isinstance(leaf, float | complex):
        return True
    return isinstance(leaf, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def value_of(leaf: Any) -> Array:
    return leaf.value if is_parameter(leaf) else leaf


def resolve(params: PyTree) -> PyTree:
    """The tree `params` as a likelihood sees it: each `Parameter` replaced by its array.

    **Raises:** `TypeError` for the result of a fit in place of its `params`.
    """
    if type(params).__name__ in ("FitResult", "Estimate"):  # which this module knows nothing of
        raise TypeError("this takes a tree of parameters, got a result: give it result.params")
    return jtu.tree_map(value_of, params, is_leaf=is_parameter)


def numbers_to_arrays(tree: PyTree, *, integers: bool) -> PyTree:
    """Turns Python floats and NumPy arrays into JAX arrays, so that a new value never retraces a jitted fit.

    Integers are turned too where they are data; in a model they are structure (the degree of a polynomial).
    """
    kinds = (float, complex, int) if integers else (float, complex)

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, kinds) and not isinstance(leaf, bool):
            return jnp.asarray(leaf, dtype=jnp.result_type(type(leaf)))
        if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufc":
            return jnp.asarray(leaf)
        return leaf

    return jtu.tree_map(convert, tree)


def names(params: PyTree) -> tuple[str, ...]:
    """The names of the free parameters of the tree `params`, one per number, in the order of a fit's `values`."""
    return free_names(flatten(params)[1])


def free_names(slots: Sequence[Slot]) -> tuple[str, ...]:
    return tuple(name for slot in slots for name in slot.free_names())


def select(params: PyTree, where: Where) -> tuple[int, ...]:
    """Positions (in the order of `names(params)`) of the free parameters that `where` picks.

    **Arguments:**

    - `where`: a name (`"mu"`, `"gamma[3]"`; the name of a vector parameter picks all its entries), a function that
        picks nodes (`lambda p: p.signal.mu`, as in `equinox.tree_at`), or a sequence of these. Of a vector of which
        some entries are fixed the others are picked.

    **Raises:** `ValueError` for an unknown name (the nearest names are said), a fixed parameter, or a function that
    picks no parameter.
    """
    if isinstance(where, Sequence) and not isinstance(where, str):
        return tuple(position for one in where for position in select(params, one))
    _, slots, _ = flatten(params)
    positions: dict[str, np.ndarray] = {}
    start = 0
    for slot in slots:
        numbers = np.full(slot.size, -1)
        numbers[slot.free] = np.arange(start, start + np.sum(slot.free))
        positions[slot.name] = numbers.reshape(slot.shape)
        start += int(np.sum(slot.free))
    picked = _picked(params, where, positions)
    picked = [x[x >= 0] if np.any(x >= 0) else x for x in picked]  # of a vector the entries that are free
    result = tuple(int(i) for x in picked for i in np.ravel(x))
    if -1 in result:
        fixed = ", ".join(repr(slot.name) for slot in slots if slot.fixed)
        raise ValueError(f"{where!r} picks a fixed parameter (fixed are: {fixed}); a fit has no error or value for it")
    return result


def mark(params: PyTree) -> PyTree:
    """The tree with everything that floats an explicit `Parameter`."""
    leaves, slots, treedef = flatten(params)
    for slot in slots:
        if not is_parameter(leaves[slot.leaf]):
            leaves[slot.leaf] = Parameter(leaves[slot.leaf])
    return jtu.tree_unflatten(treedef, leaves)


def pick(params: PyTree, where: Where) -> list[tuple[Slot, np.ndarray]]:
    """The parameters, free or fixed, that `where` picks, and which of the entries (row by row) of each.

    **Raises:** `ValueError` for an unknown name.
    """
    if isinstance(where, Sequence) and not isinstance(where, str):
        return [found for one in where for found in pick(params, one)]
    _, slots, _ = flatten(params)
    numbers = _numbered(slots)
    picked = np.concatenate([np.ravel(x) for x in _picked(params, where, numbers)])
    masks = ((slot, np.isin(numbers[slot.name].ravel(), picked)) for slot in slots)
    return [(slot, mask) for slot, mask in masks if np.any(mask)]


def _numbered(slots: Sequence[Slot]) -> dict[str, np.ndarray]:
    """By name, the numbers of a parameter's entries, all of them counted through."""
    starts = np.cumsum([0, *(slot.size for slot in slots)])
    return {
        slot.name: np.arange(start, start + slot.size).reshape(slot.shape)
        for slot, start in zip(slots, starts, strict=False)
    }


class Picked(NamedTuple):
    """Values of a resolved tree that were picked."""

    values: Array  # one vector
    shaped: Array  # the same in the shape of the node, if it is one, else the vector
    names: list[str]  # one a number


def pick_values(tree: PyTree, where: Where) -> Picked:
    """The arrays of a resolved tree that `where` picks: names and functions mean what they mean to `select`.

    **Raises:** `ValueError` for an unknown name (the nearest names are said), or a function that picks nothing.
    """
    with_path, treedef = jtu.tree_flatten_with_path(tree)
    leaves = [leaf for _, leaf in with_path]
    slots = [Slot(_path_name(path), jnp.shape(x), False, i) for i, (path, x) in enumerate(with_path) if _floats(x)]
    numbers, starts = _numbered(slots), np.cumsum([0, *(slot.size for slot in slots)])
    marks: list[Any] = [None] * len(leaves)
    for slot in slots:
        marks[slot.leaf] = numbers[slot.name]
    index: list[np.ndarray] = []
    for one in where if isinstance(where, Sequence) and not isinstance(where, str) else (where,):
        if isinstance(one, str):
            index += _by_name(one, slots, numbers, ())
        else:
            index += [np.asarray(x) for x in jtu.tree_leaves(one(jtu.tree_unflatten(treedef, marks)))]
    if not index:
        raise ValueError("the function given to select parameters picked none; pick nodes that hold a Parameter")
    flat = np.concatenate([np.ravel(x) for x in index])
    names = [name for slot in slots for name in slot.element_names()]
    if np.unique(flat).size < flat.size:
        twice = next(names[i] for k, i in enumerate(flat) if i in flat[:k])
        raise ValueError(f"the parameter {twice!r} is picked twice")
    # only the leaves that are picked from: a model may have hundreds of others, and hundreds of constraints
    used = [i for i, slot in enumerate(slots) if np.any((flat >= starts[i]) & (flat < starts[i] + slot.size))]
    values = jnp.concatenate([jnp.ravel(jnp.asarray(leaves[slots[i].leaf])) for i in used])
    position = {number: k for k, number in enumerate(n for i in used for n in range(starts[i], starts[i + 1]))}
    order = np.array([position[i] for i in flat])
    values = values if np.array_equal(order, np.arange(values.size)) else values[order]
    return Picked(values, values.reshape(index[0].shape) if len(index) == 1 else values, [names[i] for i in flat])


def _picked(params: PyTree, where: "str | Callable[[Any], Any]", numbers: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What `numbers`, by the parameters' names, hold for those that `where` picks."""
    if not (isinstance(where, str) or callable(where)):
        got = repr(where)
        if eqx.is_array(where) and where.dtype.kind in "biuf":  # not of names
            got = f"{given(where)}: do data stand here? They come before, as in mx.profile(nll, result, data, 'mu')"
        raise TypeError(f"a parameter is picked by its name, or by a function that picks nodes; got {got}")
    leaves, slots, treedef = flatten(params)
    if isinstance(where, str):
        return _by_name(where, slots, numbers, constants(params))
    marks: list[Any] = [None] * len(leaves)
    for slot in slots:
        marks[slot.leaf] = numbers[slot.name]
    picked = [np.ravel(x) for x in jtu.tree_leaves(where(jtu.tree_unflatten(treedef, marks)))]
    if not picked:
        raise ValueError("the function given to select parameters picked none; pick nodes that hold a Parameter")
    return picked


def _by_name(
    where: str, slots: Sequence[Slot], positions: dict[str, np.ndarray], constants: Container[str]
) -> list[np.ndarray]:
    if where in positions:
        return [positions[where]]
    for slot in slots:
        elements = slot.element_names()
        if where in elements:
            return [np.ravel(positions[slot.name])[elements.index(where)]]
    prefix = [positions[slot.name] for slot in slots if slot.name.startswith((f"{where}.", f"{where}["))]
    if prefix:
        return prefix
    raise ValueError(unknown_name(where, [n for slot in slots for n in (slot.name, *slot.element_names())], constants))


def constants(params: PyTree) -> dict[str, Any]:
    """By their names the numbers and arrays that do not float because they are no `Parameter`."""
    with_path, _ = jtu.tree_flatten_with_path(params, is_leaf=is_parameter)
    marked = any(is_parameter(leaf) for _, leaf in with_path)
    found = ((path, leaf) for path, leaf in with_path if not is_parameter(leaf))
    return {_path_name(path): leaf for path, leaf in found if marked and eqx.is_array_like(leaf)}


def unknown_name(name: str, known: Sequence[str], constants: Container[str] = ()) -> str:
    if name in constants:
        return f"{name!r} is a constant: beside an mx.Parameter only mx.Parameters float, and it is none"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [n for n in known if n.lower() == name.lower() and n not in near]
    listed = list(dict.fromkeys(known))
    hint = f"did you mean {' or '.join(repr(n) for n in dict.fromkeys(near))}? " if near else ""
    shown = ", ".join(repr(n) for n in listed[:20]) + (", ..." if len(listed) > 20 else "")
    return f"there is no parameter {name!r}; {hint}the parameters are: {shown}"
