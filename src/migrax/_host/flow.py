"""Control flow of algorithms: that of Python on the host, that of `jax.lax` in a program (see `xp.py`)."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import optimistix as optx
from jax import lax

from .xp import is_on_host, trips

T = TypeVar("T")


def cond(which: Any, yes: Callable[[], T], no: Callable[[], T]) -> T:
    """`yes()` where `which`, else `no()`."""
    if is_on_host():
        return yes() if which else no()
    return lax.cond(which, yes, no)


def select(which: Any, yes: T, no: T) -> T:
    """One of two trees."""
    if is_on_host():
        return yes if which else no
    return jax.tree.map(lambda a, b: jax.numpy.where(which, a, b), yes, no)


def while_loop(condition: Callable[[T], Any], body: Callable[[T], T], state: T) -> T:
    if not is_on_host():
        return lax.while_loop(condition, body, state)
    count = trips().count
    while condition(state):
        count()
        state = body(state)
    return state


def bounded_while_loop(condition: Callable[[T], Any], body: Callable[[T], T], state: T, *, max_steps: int) -> T:
    """On the host: the loop that Optimistix hands to the function of an adjoint."""
    steps, count = 0, trips().count
    while steps < max_steps and condition(state):
        count()
        state = body(state)
        steps += 1
    return state


def implicit(primal: Callable[[Any], T], residual: Callable[..., Any], inputs: tuple[Any, ...]) -> T:
    """`primal((*inputs, while_loop))`, in a program with the derivative of the implicit function theorem."""
    if is_on_host():
        return primal((*inputs, bounded_while_loop))
    return optx.ImplicitAdjoint().apply(primal, residual, inputs, frozenset())  # pyright: ignore[reportReturnType]


def vmap(fn: Callable[..., T]) -> Callable[..., T]:
    """`jax.vmap(fn)`; on the host one lane after the other, with trees stacked along a leading axis."""
    if not is_on_host():
        return jax.vmap(fn)

    def call(*args: Any) -> T:
        count = jax.tree.leaves(args)[0].shape[0]
        results = [fn(*jax.tree.map(lambda a, i=i: a[i], args)) for i in range(count)]
        return jax.tree.map(lambda *numbers: np.stack(numbers), *results)

    return call


def one_by_one(fn: Callable[..., T], *args: Any) -> T:
    """As `vmap(fn)(*args)`, but the lanes run one after the other in a program, too."""
    return vmap(fn)(*args) if is_on_host() else lax.map(lambda lane: fn(*lane), args)


def each(fn: Callable[[Any], Any], rows: Any) -> Any:
    """The numbers `fn(row)`, one row after the other."""
    return np.stack([fn(row) for row in rows]) if is_on_host() else lax.map(fn, rows)


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, T], T], state: T) -> T:
    if not is_on_host():
        return lax.fori_loop(lower, upper, body, state)
    for i in range(int(lower), int(upper)):
        state = body(i, state)
    return state


def stop_gradient(tree: T) -> T:
    return tree if is_on_host() else lax.stop_gradient(tree)
