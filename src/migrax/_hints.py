"""Likelihoods that cannot be called: what was most likely meant."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax


def check_callable(nll: Any) -> None:
    """**Raises:** `TypeError` unless `nll(params, data)` can be called."""
    if isinstance(nll, type):
        raise TypeError(f"the likelihood is the class {nll.__name__}: make one of it, {nll.__name__}(...)")
    if not callable(nll):
        raise TypeError(f"the likelihood must be callable as nll(params, data), got {type(nll).__name__}")
    try:
        signature = inspect.signature(nll)
    except (TypeError, ValueError):
        return  # a built-in, which does not tell
    try:
        signature.bind(None, None)
    except TypeError:
        name = getattr(nll, "__name__", type(nll).__name__)
        raise TypeError(
            f"the likelihood must be callable as nll(params, data), but {name} takes {signature}.{_meant(nll)}"
        ) from None


def _meant(nll: Callable) -> str:
    owner = getattr(nll, "__self__", None)
    if owner is not None and not isinstance(owner, type):
        cls, name = type(owner).__name__, getattr(nll, "__name__", "nll")
        return f" It is bound to its object: give the unbound method, mx.fit({cls}.{name}, model, data)"
    if len(inspect.signature(nll).parameters) == 1:
        return " Without data, write nll(params, data) all the same: data is None"
    return " Other arguments belong into params (constants do not float beside an mx.Parameter) or into data"


@contextmanager
def hints(data: Any) -> Iterator[None]:
    """Adds to an error from inside a likelihood what a beginner would not see."""
    try:
        yield
    except Exception as error:
        hint = _hint(error, data)
        if hint and hint not in getattr(error, "__notes__", ()):
            error.add_note(hint)
        raise


def _hint(error: Exception, data: Any) -> str | None:
    if isinstance(error, AttributeError) and error.name in ("value", "lower", "upper"):
        return (
            "migrax: when the likelihood is called, each mx.Parameter has been replaced by its array: write self.mu, "
            "never self.mu.value"
        )
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "migrax: inside a likelihood use jax.numpy (jnp) in place of NumPy, whose functions cannot be traced"
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return "migrax: inside a likelihood Python's `if`, `float()` and `bool()` cannot look at values: use jnp.where"
    if data is None and isinstance(error, TypeError | AttributeError):
        return "migrax: the likelihood was called with data=None: was mx.fit(nll, params, data) meant?"
    return None
