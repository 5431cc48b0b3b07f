"""JSON Patch (RFC 6902) and pyhf's sets of patches, by the package jsonpatch."""

import copy
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._node import Node, load, shown


def patched(document: Any, patch: Any) -> Any:
    """The document with a patch: a list of operations or a path to one; or `(patch set, name or values)`.

    **Raises:** `ValueError` for a patch that does not fit, an unknown name, or a set for another document;
    `ImportError` without jsonpatch.
    """
    if patch is None:
        return document
    operations = _of_set(document, *patch) if isinstance(patch, tuple) and len(patch) == 2 else load(patch, "patch")
    return changed(document, operations)


def changed(document: Any, operations: Any, in_place: bool = False) -> Any:
    """The document with these operations; itself, with `in_place`. **Raises:** as `patched`."""
    if isinstance(operations, Mapping):
        if "patches" in operations:
            names = [repr(p["metadata"]["name"].value) for p in Node(operations, "")["patches"].items()]
            listed = ", ".join(names[:20])
            raise ValueError(f"this is a set of patches: give patch=(set, name), with a name of {listed}")
        raise ValueError("a patch is an array of operations, and this is an object")
    for operation in Node(operations, "patch").items():
        operation["op"].text()
        if not isinstance(operation["path"].value, str):
            raise operation["path"].error("must be a path")
    return _apply(document, operations, in_place)


def _apply(document: Any, operations: list[Any], in_place: bool) -> Any:
    try:
        import jsonpatch
    except ImportError:
        raise ImportError('patches need the package jsonpatch: pip install "migrax[pyhf]"') from None
    try:
        return jsonpatch.apply_patch(document, copy.deepcopy(operations) if in_place else operations, in_place)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ValueError(f"the patch does not fit this document: {error}") from None
    except (TypeError, KeyError, IndexError, AttributeError) as error:  # not caught by jsonpatch
        raise ValueError(f"the patch does not fit this document: {type(error).__name__}: {error}") from None


def _of_set(document: Any, source: Any, which: Any) -> list[Any]:
    """The operations of one patch of a set, which must be a set for this document."""
    patches, _ = _read_set(document, source)
    return _chosen(patches, which).operations


class Patch(NamedTuple):
    """A patch of a set: its name, its values (such as masses), and its operations."""

    name: str
    values: tuple[Any, ...]
    operations: list[Any]


def patches_of(document: Any, patchset: Any) -> tuple[list[Patch], tuple[str, ...]]:
    """The patches of a set for this document, and the labels of their values: a set or a path to one, `(set, names or
    values)` for some of it, or a list of patches.

    **Raises:** `ValueError` for an unknown name, none at all, or a set for another document.
    """
    if isinstance(patchset, list):
        return [_single_patch(patch, i) for i, patch in enumerate(Node(patchset, "the list of patches").some())], ()
    wanted = None
    if isinstance(patchset, tuple):
        if len(patchset) != 2 or isinstance(patchset[1], str) or not isinstance(patchset[1], Sequence):
            raise ValueError("patchset is a set, a pair of it and a list of names or values, or a list of patches")
        patchset, wanted = patchset
    patches, labels = _read_set(document, patchset)
    selected = patches if wanted is None else [_chosen(patches, which) for which in wanted]
    if not selected:
        raise ValueError("no patch is chosen of the set")
    names = [patch.name for patch in selected]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"the patch {name!r} is chosen twice")
    return selected, labels


def _single_patch(node: Node, i: int) -> Patch:
    is_path = isinstance(node.value, str | os.PathLike)
    operations = load(node.value, "patch")
    if isinstance(operations, Mapping):
        raise node.error("a list of patches has an array of operations for each, or a path to one")
    return Patch(Path(node.value).stem if is_path else str(i), (), operations)


def _read_set(document: Any, source: Any) -> tuple[list[Patch], tuple[str, ...]]:
    """All patches of a set, which must be a set for this document, and the labels of their values."""
    if hasattr(source, "patches") and hasattr(source, "metadata"):  # a pyhf.PatchSet
        patches = [{"metadata": entry.metadata, "patch": entry.patch} for entry in source.patches]
        source = {"metadata": source.metadata, "patches": patches}
    patchset = Node(load(source, "the set of patches"), "")
    metadata = patchset["metadata"]
    digests = metadata.get("digests")
    for kind, digest in ({} if digests.missing else digests.value).items():
        if kind not in ("sha256", "md5"):
            continue
        text = json.dumps(document, sort_keys=True, ensure_ascii=False).encode("utf8")
        if hashlib.new(kind, text, usedforsecurity=False).hexdigest() != str(digest).lower():
            raise ValueError(f"the set of patches is for another document: its {kind} is {shown(digest)}")
    read = []
    for patch in patchset["patches"].some():
        values = patch["metadata"].get("values")
        plain_values = () if values.missing else tuple(value.value for value in values.items())
        read.append(Patch(patch["metadata"]["name"].text(), plain_values, patch["patch"].value))
    labels = metadata.get("labels")
    return read, () if labels.missing else tuple(label.text() for label in labels.items())


def _chosen(patches: list[Patch], which: Any) -> Patch:
    for patch in patches:
        if which == patch.name or (isinstance(which, list | tuple) and tuple(which) == patch.values):
            return patch
    raise ValueError(f"the set has no patch {which!r}; it has {', '.join(repr(p.name) for p in patches[:20])}")
