"""Rules for slices, gathers and scatters."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Function = Callable[..., Any]


def _slice(equation: Any) -> Function:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    where = tuple(slice(*ends) for ends in zip(starts, limits, strides, strict=True))
    return lambda x: x[where]


def _window(starts: Sequence[Any], sizes: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """The window of `sizes` that begins at `starts`, moved inside an array of `shape`."""
    firsts = [min(max(int(i), 0), n - size) for i, size, n in zip(starts, sizes, shape, strict=True)]
    return tuple(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True))


def _dynamic_slice(equation: Any) -> Function:
    sizes, shape = equation.params["slice_sizes"], equation.invars[0].aval.shape
    return lambda x, *starts: x[_window(starts, sizes, shape)]


def _dynamic_update_slice(equation: Any) -> Function:
    shape, sizes = (v.aval.shape for v in equation.invars[:2])

    def update(x: Any, new: Any, *starts: Any) -> Any:
        x = np.array(x)
        x[_window(starts, sizes, shape)] = new
        return x

    return update


class _Windows(NamedTuple):
    """How the numbers of a gather or scatter select windows of an operand: StableHLO's words, in gather's names."""

    offset_dims: tuple[int, ...]
    collapsed: tuple[int, ...]
    index_map: tuple[int, ...]
    operand_batch: tuple[int, ...]
    indices_batch: tuple[int, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    clip: bool

    def places(self, indices: Any) -> "_Places":
        """Which elements of the operand they select."""
        batch_shape = indices.shape[:-1]
        ndim = len(batch_shape) + len(self.offset_dims)
        batch_at = [i for i in range(ndim) if i not in self.offset_dims]
        windowed = [d for d in range(len(self.shape)) if d not in (*self.collapsed, *self.operand_batch)]

        def over_batch(x: Any) -> Any:
            return _spread(x, batch_at, ndim)

        places: list[Any] = []
        inside: Any = np.True_
        for d, (n, size) in enumerate(zip(self.shape, self.sizes, strict=True)):
            place: Any = 0
            if d in self.index_map:
                place = over_batch(indices[..., self.index_map.index(d)]).astype(np.int64)
                inside = inside & (place >= 0) & (place <= n - size)
                place = np.clip(place, 0, n - size)
            elif d in self.operand_batch:
                i = self.indices_batch[self.operand_batch.index(d)]
                place = _spread(np.arange(batch_shape[i]), [batch_at[i]], ndim)
            if d in windowed:
                place = place + _spread(np.arange(size), [self.offset_dims[windowed.index(d)]], ndim)
            places.append(place)
        inside = np.True_ if self.clip else inside
        return _Places(tuple(places), inside, bool(np.all(inside)))


_MANY = 300_000  # to find out whether any of so many is selected twice takes longer than it saves


class _Places(NamedTuple):
    elements: tuple[Any, ...]  # the index of each in each dimension of the operand, broadcast against each other
    inside: Any  # whether its window lies inside
    all_inside: bool
    is_single: bool = False  # whether no element is known to be selected twice

    def counted(self, shape: Sequence[int]) -> "_Places":
        """The same with `is_single` found out, for an operand of this shape."""
        if not self.all_inside:
            return self
        if math.prod(np.broadcast_shapes(*map(np.shape, self.elements))) > _MANY:
            return self
        flat = np.ravel(np.ravel_multi_index(np.broadcast_arrays(*self.elements), shape)) if shape else np.zeros(1)
        return self._replace(is_single=np.unique(flat).size == flat.size)


class Indexed:
    """`use(operand, places, ...)` as a function of the operand and the numbers of a gather or scatter."""

    def __init__(self, windows: _Windows, use: Function):
        self._windows, self._use = windows, use

    def __call__(self, x: Any, indices: Any, *new: Any) -> Any:
        return self._use(x, self._windows.places(indices), *new)

    def at(self, indices: Any) -> Function:
        """The same function for these numbers, whatever it is given for them."""
        places, use = self._windows.places(indices).counted(self._windows.shape), self._use
        return lambda x, _, *new: use(x, places, *new)


def _spread(x: Any, dims: Sequence[int], ndim: int) -> Any:
    """`x` with its dimensions at `dims` of `ndim`."""
    shape = [1] * ndim
    for dim, size in zip(dims, np.shape(x), strict=True):
        shape[dim] = size
    return np.reshape(x, shape)


def _mode(equation: Any) -> str:
    return str(getattr(equation.params["mode"], "name", equation.params["mode"])).lower()


def _gather(equation: Any) -> Function | None:
    numbers, mode = equation.params["dimension_numbers"], _mode(equation)
    fills = "fill" in mode
    if not (fills or "clip" in mode or "promise" in mode):
        return None
    windows = _Windows(
        tuple(numbers.offset_dims),
        tuple(numbers.collapsed_slice_dims),
        tuple(numbers.start_index_map),
        tuple(numbers.operand_batching_dims),
        tuple(numbers.start_indices_batching_dims),
        tuple(equation.params["slice_sizes"]),
        tuple(equation.invars[0].aval.shape),
        not fills,
    )
    out = equation.outvars[0].aval
    fill = _fill_value(np.dtype(out.dtype), equation.params.get("fill_value"))

    def gather(x: Any, at: _Places) -> Any:
        found = np.broadcast_to(np.asarray(x)[at.elements], out.shape)
        return found if at.all_inside else np.where(at.inside, found, fill)

    return Indexed(windows, gather)


def _fill_value(dtype: np.dtype, given: Any) -> Any:
    """What stands for an element outside: NaN, the lowest integer, the highest unsigned one, True (jax.lax.gather)."""
    if given is not None:
        return dtype.type(given)
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    if dtype.kind == "b":
        return np.True_
    return dtype.type(np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max)


def _scatter(combine: np.ufunc | None) -> Callable[[Any], Function | None]:
    def rule(equation: Any) -> Function | None:
        numbers, mode = equation.params["dimension_numbers"], _mode(equation)
        operand, _, updates = (v.aval for v in equation.invars)
        collapsed, operand_batch = tuple(numbers.inserted_window_dims), tuple(numbers.operand_batching_dims)
        windowed = [d for d in range(operand.ndim) if d not in (*collapsed, *operand_batch)]
        sizes = [1] * operand.ndim
        for d, place in zip(windowed, numbers.update_window_dims, strict=True):
            sizes[d] = updates.shape[place]
        windows = _Windows(
            tuple(numbers.update_window_dims),
            collapsed,
            tuple(numbers.scatter_dims_to_operand_dims),
            operand_batch,
            tuple(numbers.scatter_indices_batching_dims),
            tuple(sizes),
            tuple(operand.shape),
            "clip" in mode,
        )
        if not any(word in mode for word in ("fill", "drop", "clip", "promise")):
            return None

        def scatter(x: Any, at: _Places, new: Any) -> Any:
            out = np.array(x)
            new = np.asarray(new)
            index = tuple(np.broadcast_to(place, new.shape) for place in at.elements)
            if not at.all_inside:
                kept = np.broadcast_to(at.inside, new.shape)
                index, new = tuple(place[kept] for place in index), new[kept]
            if combine is None:
                out[index] = new
            elif at.is_single:
                out[index] = combine(out[index], new)
            else:
                combine.at(out, index, new)
            return out

        return Indexed(windows, scatter)

    return rule


_COMBINED = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum}

RULES: dict[str, Callable[[Any], Function | None]] = {
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "scatter": _scatter(None),
    **{f"scatter{mark}{name}": _scatter(combine) for name, combine in _COMBINED.items() for mark in "-_"},
    "slice": _slice,
}
