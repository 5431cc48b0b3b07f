"""The memory of a `Minuit`: the problem, the numbers at the start and the current ones, and the last results."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike

from ..._fit.objective import check_up, prepare_data, prepare_params
from ..._fit.result import FitResult
from ..._likelihoods.base import as_likelihood
from ..._parameters.names import flatten, mark
from ..._parameters.parameter import Parameter, bounds_of
from ..._util.tracing import is_concrete
from ..._util.typing import PyTree
from .tables import FMin, MErrors

_TRACED = (
    "an mx.Minuit keeps its numbers outside of JAX: it cannot be used inside jax.jit, jax.vmap or jax.grad, nor hold "
    "traced values. Use the functions there, mx.fit(nll, params, data)"
)


def refuse_traced(*trees: Any) -> None:
    """**Raises:** `TypeError` inside `jax.jit`, or if a tree holds traced values."""
    # inside a trace even a new number is traced
    if not is_concrete(jnp.asarray(0.0), *jax.tree.leaves(trees)):
        raise TypeError(_TRACED)


@dataclasses.dataclass
class Numbers:
    """One entry for each number of the tree, including fixed ones. Missing limits are infinite."""

    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    fixed: np.ndarray

    def copy(self) -> "Numbers":
        return Numbers(self.values.copy(), self.lower.copy(), self.upper.copy(), self.fixed.copy())


@dataclasses.dataclass
class Memory:
    """All mutable state of a `Minuit`. `start` and `now` are one object until something is minimised, so that all that
    is set before belongs to the start, which `reset` restores."""

    nll: Callable[[Any, Any], Any]
    data: PyTree
    up: float
    template: PyTree  # the user's tree, in which what floats is a `Parameter`
    names: tuple[str, ...]
    dtypes: tuple[Any, ...]  # of each number
    start: Numbers
    now: Numbers
    errors: np.ndarray  # NaN if unknown
    covariance: np.ndarray | None = None  # of all numbers
    kind: str = "hesse"
    result: FitResult | None = None
    fmin: FMin | None = None
    merrors: MErrors = dataclasses.field(default_factory=MErrors)
    result_is_of_now: bool = False
    fmin_is_of_now: bool = False
    counts: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    @property
    def likelihood(self) -> Any:
        """The function as a likelihood."""
        return as_likelihood(self.nll)

    def copy(self) -> "Memory":
        new = copy.copy(self)
        new.now = self.now.copy()
        new.start = new.now if self.start is self.now else self.start.copy()
        new.errors, new.merrors, new.counts = self.errors.copy(), MErrors(self.merrors), dict(self.counts)
        return new

    def numbers_alone(self) -> "Memory":
        """A copy without the likelihood and its results, for a pickled view of its numbers."""
        new = self.copy()
        new.nll, new.data, new.result, new.fmin, new.merrors = _no_likelihood, None, None, None, MErrors()
        new.touch()
        return new

    def touch(self) -> None:
        """Mark the last results as not belonging to the current numbers."""
        self.result_is_of_now = self.fmin_is_of_now = False

    def detach(self) -> None:
        """Keep the start as it is from here on."""
        if self.now is self.start:
            self.now = self.start.copy()

    def forget(self) -> None:
        """Forget all results."""
        self.result, self.fmin, self.covariance, self.merrors, self.kind = None, None, None, MErrors(), "hesse"
        self.errors = np.full(len(self.names), np.nan)
        self.touch()

    def count(self, **numbers: Any) -> None:
        for name, number in numbers.items():
            self.counts[name] += int(number)

    def rounded(self, i: int, x: float) -> float:
        """The value as the tree will store it: a value at a limit must not lie beyond it."""
        return float(np.asarray(x, self.dtypes[i]))

    def error(self, i: int) -> float:
        """The error of a parameter: 0 if it is fixed, NaN if unknown."""
        return 0.0 if self.now.fixed[i] else float(self.errors[i])

    def at_limit(self, i: int) -> bool:
        """Whether it is at a limit, or closer to it than half an error (MINUIT's rule)."""
        now, error = self.now, self.errors[i]
        room = min(now.values[i] - now.lower[i], now.upper[i] - now.values[i])
        return bool(not now.fixed[i] and (room <= 0 or room < 0.5 * error))

    def tree(self, *, numbers: Numbers | None = None, released: bool = False) -> PyTree:
        """The user's tree with the current (or the given) numbers; `released`: with nothing fixed."""
        numbers = self.now if numbers is None else numbers
        leaves, slots, treedef = flatten(self.template)
        position = 0
        for slot in slots:
            entries = slice(position, position + slot.size)
            position += slot.size
            value, lower, upper, fixed = (
                getattr(numbers, field)[entries].reshape(slot.shape) for field in ("values", "lower", "upper", "fixed")
            )
            old = leaves[slot.leaf]
            dtype = old.value.dtype
            low = jnp.asarray(lower, dtype) if np.any(np.isfinite(lower)) else None
            high = jnp.asarray(upper, dtype) if np.any(np.isfinite(upper)) else None
            if old.period is not None:
                if not (low is None and high is None):
                    raise ValueError(f"{slot.name!r} has a period: it takes no limits")
                low = old.lower
            leaves[slot.leaf] = Parameter(
                jnp.asarray(value, dtype), low, high, False if released else fixed, old.period
            )
        return jtu.tree_unflatten(treedef, leaves)


def _no_likelihood(params: Any, data: Any) -> Any:
    raise TypeError("this is a view of a Minuit that was pickled: it has its numbers, but no likelihood")


COUNTS = ("nfcn", "ngrad", "nhessian")


def begin(nll: Callable[[Any, Any], Any], params: PyTree, data: PyTree, up: ArrayLike) -> Memory:
    """The memory of a new `Minuit`. **Raises:** `TypeError`, `ValueError` as `mx.fit`."""
    likelihood = as_likelihood(nll)
    refuse_traced(nll, params, data, up)
    params, data = prepare_params(params), prepare_data(data)
    likelihood.needs_scale(data, "mx.Minuit", "; mx.fit scales the errors itself")
    template = mark(params)
    leaves, slots, _ = flatten(template)
    names = tuple(name for slot in slots for name in slot.element_names())
    dtypes = tuple(leaves[slot.leaf].value.dtype for slot in slots for _ in range(slot.size))
    if not names:
        raise ValueError("params holds no parameter: neither an mx.Parameter nor a floating-point number")
    start = numbers_of(template)
    return Memory(nll, data, float(check_up(up)), template, names, dtypes, start, start, np.full(len(names), np.nan))


def numbers_of(params: PyTree) -> Numbers:
    """The numbers of a tree of `Parameter`s."""
    leaves, slots, _ = flatten(params)
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for slot in slots:
        p = leaves[slot.leaf]
        low, high = (s * np.inf if b is None else b for s, b in zip((-1, 1), bounds_of(p), strict=True))
        for column, entries in zip(columns, (p.value, low, high, ~slot.free.reshape(slot.shape)), strict=True):
            column.append(np.ravel(np.broadcast_to(np.asarray(entries), slot.shape)))
    values, lower, upper, fixed = (np.concatenate(column) for column in columns)
    return Numbers(values.astype(float), lower.astype(float), upper.astype(float), fixed.astype(bool))
