"""Hints for errors in calls: what the user most likely meant."""

import dataclasses
import inspect
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import numpy as np

from . import other_packages


def check_callable(fn: Any, what: str = "the likelihood", form: str = "nll(params, data)") -> None:
    """Checks that a function can be called.

    **Arguments:**

    - `what`: the name of the function in messages.
    - `form`: the form of its call.

    **Raises:** `TypeError` unless `fn` can be called with as many arguments as `form` shows.
    """
    if isinstance(fn, type):
        raise TypeError(f"{what} is the class {fn.__name__}: make one of it, {fn.__name__}(...)")
    if type(fn).__module__ == "iminuit.cost":
        name = type(fn).__name__
        ours = other_packages.LIKELIHOODS.get(name, name)
        raise TypeError(f"{what} is an iminuit.cost.{name}, which JAX cannot trace: mx.{ours} is its counterpart")
    if not callable(fn):
        raise TypeError(f"{what} must be callable as {form}, got {type(fn).__name__}")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # a built-in without a signature
    try:
        signature.bind(*[None] * (form.count(",") + 1))
    except TypeError:
        name = getattr(fn, "__name__", type(fn).__name__)
        raise TypeError(f"{what} must be callable as {form}, but {name} takes {signature}.{_meant(fn, form)}") from None


def _meant(fn: Callable, form: str) -> str:
    owner = getattr(fn, "__self__", _module(fn))
    is_bound = owner is not None and not isinstance(owner, type)
    n_taken = len(inspect.signature(fn).parameters)
    if is_bound and n_taken == form.count(","):
        cls, name = type(owner).__name__, getattr(fn, "__name__", "__call__")
        return f" It is bound to its object: give the unbound method, {cls}.{name}, and the object as params in mx.fit"
    if form == "nll(params, data)" and n_taken == 1:
        return " Without data, write nll(params, data) all the same: data is None"
    return " Other arguments belong into params (constants do not float beside an mx.Parameter) or into data"


def _module(fn: Any) -> Any:
    return fn if isinstance(fn, eqx.Module) else None


def refuse_data(likelihood: str, args: Sequence[Any], kwargs: Collection[str] = ()) -> None:
    """**Raises:** `TypeError`, with what to write, if a likelihood of that name is constructed with data.

    Widths of `mx.NormalConstraint` and templates are arrays, too; for these the sign is a third argument, as iminuit's
    classes take it.
    """
    if likelihood not in other_packages.TAKES_DATA_LATER:
        return
    if likelihood in ("NormalConstraint", "TemplateNLL"):
        is_data = len(args) > 2 or "value" in kwargs
    else:
        is_data = any(isinstance(a, list | tuple | np.ndarray | jax.Array) for a in args)
    if is_data:
        raise TypeError(other_packages.of_data(likelihood))


@contextmanager
def hints(nll: Any, params: Any, data: Any, names: Sequence[str], is_joint: bool) -> Iterator[None]:
    """Adds a hint for beginners to an error that a likelihood raises.

    **Arguments:**

    - `params`: the resolved tree; `names`: of its free parameters.
    - `is_joint`: each part of the likelihood has its own data, so that a tuple of numbers is as it should be.
    """
    try:
        yield
    except Exception as error:
        try:
            hint = _hint(error, names) or _of_call(error, nll, params, data, names, is_joint)
        except Exception:  # the user must see the error of the likelihood, whatever happens here
            hint = None
        if hint and hint not in getattr(error, "__notes__", ()):
            error.add_note(hint)
        raise


def _hint(error: Exception, names: Sequence[str]) -> str | None:
    if isinstance(error, AttributeError) and error.name in ("value", "lower", "upper"):
        return (
            "migrax: when the likelihood is called, each mx.Parameter has been replaced by its array: write self.mu, "
            "never self.mu.value"
        )
    if isinstance(error, jax.errors.TracerArrayConversionError):
        modules = [str(f.f_globals.get("__name__")).split(".")[0] for f, _ in traceback.walk_tb(error.__traceback__)]
        for module, name in (("scipy", "SciPy"), ("numba_stats", "numba_stats"), ("numba", "Numba")):
            if module in modules:
                return (
                    f"migrax: {name} cannot be traced: take mx.distributions, such as mx.distributions.Normal(mu, "
                    "sigma).log_prob(x), or jax.scipy"
                )
        return "migrax: inside a likelihood use jax.numpy (jnp) in place of NumPy, whose functions cannot be traced"
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return (
            "migrax: inside a likelihood Python's `if`, `float()`, `bool()` and the module `math` cannot look at "
            "values: use jnp.where, jnp.exp, ..."
        )
    if isinstance(error, KeyError):
        return f"migrax: raised inside the likelihood; the free parameters are {', '.join(names[:20]) or 'none'}"
    return None


def _of_call(error: Exception, nll: Any, params: Any, data: Any, names: Sequence[str], is_joint: bool) -> str | None:
    """Returns the hint for a likelihood that expects other arguments than those of `nll(params, data)`."""
    if not isinstance(error, TypeError | AttributeError):
        return None
    is_module = isinstance(nll, eqx.Module)  # a module takes params and data itself
    taken = [] if is_module else _argument_names(nll)
    if taken and taken[0] in names and isinstance(params, dict | eqx.Module):
        accessor = "p[{!r}]".format if isinstance(params, dict) else "p.{}".format
        call = ", ".join(accessor(name) if name in names else "data" for name in taken)
        name = (getattr(nll, "__name__", None) or "nll").replace("<lambda>", "nll")
        return (
            f"migrax: a likelihood is called as nll(params, data), so that {taken[0]} is the whole tree of parameters: "
            f"write lambda p, data: {name}({call})"
        )
    if "string index" in str(error):
        return (
            f"migrax: an array was indexed by a name: params is {_kind(params)}, data is {_kind(data)}, and the "
            "functions of a likelihood take the parameters first, as in log_prob(params, x)"
        )
    is_operand_error = isinstance(error, TypeError) and "'dict'" in str(error)
    if is_operand_error and isinstance(params, dict) and len(taken) == 2:
        call = ", ".join(f"p[{name!r}]" for name in names[:2])
        return (
            f"migrax: a likelihood is called as nll(params, data), and {taken[0]} is params, a dictionary: take its "
            f"entries, such as {call}"
        )
    for what, tree in (("params", params), ("data", data)):
        is_numbers = type(tree) in (list, tuple) and all(eqx.is_array_like(x) and np.ndim(x) == 0 for x in tree)
        if is_numbers and tree and not (is_joint and what == "data"):
            kind = type(tree).__name__
            return f"migrax: {what} is a {kind} of separate numbers: for one vector give an array, jnp.array(...)"
    if data is None and "NoneType" in str(error):
        return "migrax: the likelihood was called with data=None: it comes third, as in mx.fit(nll, params, data)"
    return None


def _kind(tree: Any) -> str:
    return "an array" if eqx.is_array(tree) else f"a {type(tree).__name__}"


def _argument_names(fn: Any) -> list[str]:
    try:
        return list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return []


def given(x: Any) -> str:
    """Describes the given value for a message; tracers are described as arrays."""
    return f"an array of shape {np.shape(x)}" if eqx.is_array(x) else type(x).__name__


def refuse_strangers(leaf: Any, where: str) -> None:
    """**Raises:** `TypeError` for histograms, masked arrays and quantities with a unit, with how to convert them."""
    unit = getattr(leaf, "unit", None) if hasattr(leaf, "to_value") else getattr(leaf, "units", None)
    if unit is not None and (hasattr(leaf, "to_value") or hasattr(leaf, "magnitude")):
        convert = "to_value" if hasattr(leaf, "to_value") else "m_as"
        raise TypeError(
            f"{where} a quantity in the unit {str(unit)!r}, and JAX knows no units: give its numbers, in the same unit "
            f"everywhere, quantity.{convert}({str(unit)!r})"
        )
    is_structured = isinstance(leaf, np.ndarray) and leaf.dtype.names is not None
    if is_structured or (callable(getattr(leaf, "values", None)) and hasattr(leaf, "axes")):
        raise TypeError(f"{where} a histogram: take its contents, counts, edges = mx.io.from_histogram(histogram)")
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(
            f"{where} a masked array of NumPy: give its numbers and what to use of them, a.filled(0.0) and "
            "~np.ma.getmaskarray(a), to the mask of mx.Events, mx.Points or of the likelihood"
        )


def _has_hash(x: Any) -> bool:
    if eqx.is_array(x):
        return True
    try:
        hash(x)
    except TypeError:
        return False
    return True


def refuse_unhashable(fn: Any, args: Any, kwargs: Any) -> None:
    """**Raises:** `TypeError` for the first leaf of the arguments of `fn` that is neither an array nor hashable."""
    bound = inspect.signature(fn).bind(*args, **kwargs).arguments
    unhashable = [(path, leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(bound)[0] if not _has_hash(leaf)]
    if not unhashable:
        return
    path, leaf = unhashable[0]
    place = f"{path[0].key}{jax.tree_util.keystr(path[1:])}"
    name = type(leaf).__name__
    if dataclasses.is_dataclass(leaf):
        raise TypeError(
            f"{place} is a {name}, a dataclass that JAX does not know as a tree: make {name} an eqx.Module, or "
            "decorate it with @jax.tree_util.register_dataclass"
        ) from None
    raise TypeError(
        f"{place} is a {name}, which is neither an array, nor a tree that JAX knows, nor a constant that can be "
        "hashed: give arrays, in dicts, tuples, lists or an eqx.Module"
    ) from None
