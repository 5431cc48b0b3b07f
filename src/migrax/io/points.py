"""Fitted parameters, written back into the documents that they came from."""

import copy
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from .._fit.result import FitResult
from .._parameters.parameter import Parameter
from .._util.tracing import is_concrete
from ._node import Node, load

_WORD = re.compile(r'[^\s"(),+*/^<>!=&|]+')  # names, including those in expressions


def to_pyhf(
    result: FitResult, workspace: str | os.PathLike[str] | Mapping[str, Any], *, measurement: str | None = None
) -> dict[str, Any]:
    """Returns the workspace with the fitted values as the starts ("inits") of a measurement.

    Parameters that were fixed are marked as fixed. `pyhf.Workspace(...).model().config.suggested_init()` then returns
    the fitted values, and fits of `mx.io.from_pyhf` start there.

    ```python
    json.dump(mx.io.to_pyhf(result, "workspace.json"), open("fitted.json", "w"))
    ```

    **Arguments:**

    - `result`: the result of a fit of the likelihood that `mx.io.from_pyhf` returned for this workspace.
    - `workspace`: a path to a JSON file, or what was read from one. It is not changed.
    - `measurement`: the name of a measurement; default: the first.

    **Returns:** a new workspace. A vector parameter of which only some entries are fixed is not marked as fixed,
    because pyhf fixes all entries or none (entries of bins without an error are fixed automatically).

    **Raises:** `ValueError` for a workspace without this measurement, or without these parameters; `TypeError` for any
    other result.
    """
    params = _params(result)
    new = copy.deepcopy(dict(load(workspace, "workspace")))
    measured = Node(new, "")["measurements"].some()
    names = [node["name"].label() for node in measured]
    if measurement is not None and measurement not in names:
        raise ValueError(f"there is no measurement {measurement!r}; there are {', '.join(map(repr, names))}")
    config = measured[0 if measurement is None else names.index(measurement)]["config"].value
    entries = config.setdefault("parameters", [])
    channels = Node(new, "")["channels"].items()
    modifiers = {m["name"].value for c in channels for s in c["samples"].items() for m in s["modifiers"].items()}
    if not modifiers & set(params):  # a patch may have added some
        _check_same(params, modifiers, "workspace")
    known: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in entries}
    for name, p in params.items():
        if name not in known:
            known[name] = {"name": name}
            entries.append(known[name])
        entry = known[name]
        entry["inits"] = np.ravel(np.asarray(p.value)).tolist()
        if p.value.ndim == 0 and (bool(np.all(p.fixed)) or "fixed" in entry):
            entry["fixed"] = bool(np.all(p.fixed))
    return new


def to_hs3(
    result: FitResult, document: str | os.PathLike[str] | Mapping[str, Any], *, name: str = "fitted"
) -> dict[str, Any]:
    """Returns the HS3 document with the fitted values added as a parameter point.

    ```python
    json.dump(mx.io.to_hs3(result, "document.json"), open("fitted.json", "w"))
    ```

    **Arguments:**

    - `result`: the result of a fit of the likelihood that `mx.io.from_hs3` returned for this document.
    - `document`: a path to a JSON file, or what was read from one. It is not changed.
    - `name`: the name of the point; an existing point with this name is replaced. Fits of
        `mx.io.from_hs3(..., point=name)` start there.

    **Returns:** a new document. Entries of vectors, which have no names in the document, are written as `"mcstat[0]"`.

    **Raises:** `ValueError` for a document without these parameters; `TypeError` for any other result.
    """
    params = _params(result)
    new = copy.deepcopy(dict(load(document, "document")))
    _check_same(params, set(_WORD.findall(json.dumps(new))), "document")
    entries = []
    for key, p in params.items():
        values, fixed = np.asarray(p.value), np.broadcast_to(np.asarray(p.fixed), np.shape(p.value))
        for index in np.ndindex(*values.shape):
            entry = {"name": key + (f"[{','.join(map(str, index))}]" if index else ""), "value": float(values[index])}
            entries.append(entry | ({"const": True} if fixed[index] else {}))
    points = [point for point in new.get("parameter_points", []) if point.get("name") != name]
    return new | {"parameter_points": [*points, {"name": name, "parameters": entries}]}


def _check_same(params: Iterable[str], known: Collection[str], what: str) -> None:
    """**Raises:** `ValueError` for a parameter that does not occur in it: it is not the document that was fitted."""
    unknown = [name for name in params if name not in known]
    if unknown:
        raise ValueError(f"nothing in the {what} has the parameter {unknown[0]!r}: is it the one that was fitted?")


def _params(result: FitResult) -> dict[str, Parameter]:
    params = getattr(result, "params", None)
    if not isinstance(params, Mapping) or not all(isinstance(p, Parameter) for p in params.values()):
        raise TypeError("the result must be that of mx.fit of a likelihood of mx.io, whose parameters are by name")
    if not is_concrete(result.nll) or np.ndim(result.nll) != 0:
        raise TypeError("one fit is needed, not a batch of them, and not inside of jax.jit")
    return dict(params)
