"""JSON Patch (RFC 6902) and pyhf's sets of patches, by the package jsonpatch."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ._node import Node, load, shown


def patched(document: Any, patch: Any) -> Any:
    """The document with a patch: a list of operations or a path to one; or `(patch set, name or values)`.

    **Raises:** `ValueError` for a patch that does not fit, an unknown name, or a set for another document;
    `ImportError` without jsonpatch.
    """
    if patch is None:
        return document
    operations = _of_set(document, *patch) if isinstance(patch, tuple) and len(patch) == 2 else load(patch, "patch")
    if isinstance(operations, Mapping):
        if "patches" in operations:
            names = [repr(p["metadata"]["name"].value) for p in Node(operations, "")["patches"].items()]
            some = ", ".join(names[:20])
            raise ValueError(f"this is a set of patches: give patch=(set, name), with a name of {some}")
        raise ValueError("a patch is an array of operations, and this is an object")
    for operation in Node(operations, "patch").items():
        operation["op"].text()
        if not isinstance(operation["path"].value, str):
            raise operation["path"].error("must be a path")
    return _apply(document, operations)


def _apply(document: Any, operations: list[Any]) -> Any:
    try:
        import jsonpatch
    except ImportError:
        raise ImportError('patches need the package jsonpatch: pip install "migrax[pyhf]"') from None
    try:
        return jsonpatch.apply_patch(document, operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ValueError(f"the patch does not fit this document: {error}") from None
    except (TypeError, KeyError, IndexError, AttributeError) as error:  # that jsonpatch lets through
        raise ValueError(f"the patch does not fit this document: {type(error).__name__}: {error}") from None


def _of_set(document: Any, source: Any, which: Any) -> list[Any]:
    """The operations of one patch of a set, which must be a set for this document."""
    patchset = Node(load(source, "the set of patches"), "")
    for kind, digest in (patchset["metadata"]["digests"].value or {}).items():
        if kind not in ("sha256", "md5"):
            continue
        text = json.dumps(document, sort_keys=True, ensure_ascii=False).encode("utf8")
        if hashlib.new(kind, text, usedforsecurity=False).hexdigest() != str(digest).lower():
            raise ValueError(f"the set of patches is for another document: its {kind} is {shown(digest)}")
    names = []
    for patch in patchset["patches"].some():
        about = patch["metadata"]
        name, values = about["name"].text(), about.get("values").value
        if which == name or (isinstance(which, list | tuple) and list(which) == list(values or [])):
            return patch["patch"].value
        names.append(name)
    raise ValueError(f"the set has no patch {which!r}; it has {', '.join(map(repr, names[:20]))}")
