"""Calls of `mx.Minuit` with the arguments of iminuit's `Minuit`: the error shows how to write them here."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..._hints.other_packages import COSTS
from .refused import AbstractRefusals, Refused

P = ParamSpec("P")
T = TypeVar("T")

_OWN = ("nll", "params", "data", "up")


def as_iminuits(init: Callable[P, T]) -> Callable[P, T]:
    """Make an `__init__` check first for calls in the manner of iminuit.

    **Raises:** `TypeError` for these, with the call to use here.
    """

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        nll, *given = args[1:] if len(args) > 1 else (kwargs.get("nll"),)
        message = complaint(nll, given, {key: value for key, value in kwargs.items() if key != "nll"})
        if message is not None:
            raise TypeError(message)
        return init(*args, **kwargs)

    return checked


def complaint(nll: Any, given: Sequence[Any], named: Mapping[str, Any]) -> str | None:
    """The call to write instead of `mx.Minuit(nll, *given, **named)`; `None` for a right call, or one that is wrong in
    another way than iminuit's."""
    tree = given[0] if given else named.get("params")
    others = {key: value for key, value in named.items() if key not in _OWN}
    cost = next((cls.__name__ for cls in type(nll).__mro__ if cls.__module__ == "iminuit.cost"), None)
    if cost is not None:
        return _of_cost(cost, nll, given, tree, others)
    labels, limits = others.pop("name", None), others.pop("limits", None)
    arguments = _arguments(nll)
    by_name = _starts_by_name(others, arguments, tree)
    unknown = [key for key in others if key not in by_name]
    if unknown:
        return _unknown(unknown[0], others[unknown[0]])
    alone = len(given) == 1 and labels is None and not by_name and (limits is None or len(arguments) != 1)
    by_position = list(given) if all(map(_is_number, given)) and not alone else []
    if not by_position and not by_name and labels is None and limits is None:
        return None
    starts = _starts(by_position, by_name, labels, arguments, tree)
    data = given[1] if len(given) > 1 else named.get("data")
    if by_position or set(by_name) & set(arguments) or (labels is not None and data is None):
        example = _wrapped(nll, starts, arguments)
    else:
        example = f"mx.Minuit({_name(nll)}, {_shown(starts)}{'' if data is None else ', data'})"
    message = f"mx.Minuit takes (nll, params, data): one tree of starts, which nll is given whole. Write {example}"
    if limits is not None:
        message += f", and then {_setting(limits, list(starts))}"
    if len(by_position) == 2 and not by_name and labels is limits is None:
        x, y = map(float, by_position)
        message += f" (where the second number is the data indeed: mx.Minuit({_name(nll)}, mx.Parameter({x!r}), {y!r}))"
    return message


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float | np.number) and not isinstance(x, bool)


def _arguments(nll: Any) -> list[str]:
    try:
        parameters = inspect.signature(nll).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _starts_by_name(others: Mapping[str, Any], arguments: Sequence[str], tree: Any) -> dict[str, Any]:
    """The keywords that are starts: the arguments of the function, or without a tree all that may be."""
    numbers = {key: value for key, value in others.items() if _is_number(value)}
    starts = {key: value for key, value in numbers.items() if key in arguments}
    if starts or tree is not None:
        return starts
    return {key: value for key, value in numbers.items() if key != "errordef" and _why_refused(key) is None}


def _why_refused(key: str) -> str | None:
    refused = vars(AbstractRefusals).get(key)
    return refused.why if isinstance(refused, Refused) else None


def _unknown(key: str, value: Any) -> str:
    if key == "errordef":
        return f"mx.Minuit has no argument 'errordef': write up={value!r}"
    why = _why_refused(key)
    if why is not None:
        return f"mx.Minuit has no {key}: {why}"
    near = difflib.get_close_matches(key, _OWN, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ". Limits are set later: m.limits['x'] = (0, 1)"
    return f"mx.Minuit has no argument {key!r}: it takes nll, params, data and up{hint}"


def _starts(
    by_position: list[Any], by_name: dict[str, Any], labels: Any, arguments: list[str], tree: Any
) -> dict[str, Any]:
    """The tree of starts; empty if it cannot be determined."""
    if isinstance(tree, Mapping):
        return {**tree, **by_name} if all(map(_is_number, tree.values())) else {}
    values = by_position
    if not values and labels is not None and isinstance(tree, Sequence | np.ndarray) and np.ndim(tree) == 1:
        values = list(tree)
    names = arguments if labels is None else list(labels)
    if len(names) < len(values):
        names = [f"x{i}" for i in range(len(values))]
    return dict(zip(names, values, strict=False)) | by_name


def _shown(starts: Mapping[str, Any]) -> str:
    entries = (f"{key!r}: {float(value)!r}" if _is_number(value) else f"{key!r}: ..." for key, value in starts.items())
    return f"{{{', '.join(entries)}}}" if starts else "params"


def _name(nll: Any) -> str:
    name = getattr(nll, "__name__", "")
    return name if name.isidentifier() else "nll"


def _wrapped(nll: Any, starts: Mapping[str, Any], arguments: Sequence[str]) -> str:
    """The call for a function that takes each number as a separate argument."""
    numbers = [f"p[{key!r}]" for key in starts]
    if len(arguments) == 1 and len(starts) > 1:
        inside = f"jnp.stack([{', '.join(numbers)}])"
    elif set(starts) == set(arguments):
        inside = ", ".join(f"p[{key!r}]" for key in arguments)
    elif set(starts) <= set(arguments):
        inside = ", ".join(f"{key}=p[{key!r}]" for key in starts)
    else:
        inside = ", ".join(numbers)
    return f"mx.Minuit(lambda p, data: {_name(nll)}({inside}), {_shown(starts)})"


def _setting(limits: Any, names: Sequence[str]) -> str:
    if isinstance(limits, Mapping):
        return "; ".join(f"m.limits[{key!r}] = {value!r}" for key, value in limits.items())
    if isinstance(limits, Sequence) and len(limits) == len(names):
        return "; ".join(f"m.limits[{key!r}] = {value!r}" for key, value in zip(names, limits, strict=True))
    return f"m.limits = {limits!r}"


def _of_cost(cost: str, nll: Any, given: Sequence[Any], tree: Any, others: Mapping[str, Any]) -> str:
    """The likelihood that replaces a cost function of iminuit."""
    from iminuit import describe  # installed, as its object exists

    problem = f"iminuit.cost.{type(nll).__name__} computes with NumPy, which JAX cannot trace"
    if cost not in COSTS:
        return f"{problem}: write a function nll(params, data) with jax.numpy"
    likelihood, data, functions = COSTS[cost]
    starts = {key: value for key, value in others.items() if _is_number(value)}
    if isinstance(tree, Mapping):
        starts = dict(tree)
    elif given and all(map(_is_number, given)):
        starts = dict(zip(describe(nll), given, strict=False))
    condition = f", where {functions} is written with jax.numpy" if functions else ""
    return f"{problem}. Write mx.Minuit({likelihood}, {_shown(starts)}, {data}){condition}"
