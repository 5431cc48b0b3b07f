"""One batch of toys as a file: an npz whose arrays have the names of the fields of a `FitResult`, with a record of what
it holds and a checksum over both."""

import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._util.typing import PyTree

_IDENTITY, _CHECKSUM, _NAMES = "identity", "checksum", "names"  # entries beside the arrays
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Batch(NamedTuple):
    """What a file says."""

    record: dict[str, Any]  # the study, and which of its toys these are
    names: tuple[str, ...]  # of the parameters
    arrays: dict[str, np.ndarray]
    checksum: str


def digest(*values: Any) -> str:
    """Returns a fingerprint of texts, numbers and arrays, including keys of `jax.random`."""
    hasher = hashlib.sha256()
    for leaf in jax.tree.leaves(values):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, jax.Array | np.ndarray):
            array = np.ascontiguousarray(leaf)
            hasher.update(f"{array.dtype.str}{array.shape}".encode())
            hasher.update(array.tobytes())
        else:
            hasher.update(repr(leaf).encode())
        hasher.update(b"\0")
    return hasher.hexdigest()


def field_names(tree: PyTree) -> list[str]:
    """The names of the arrays of a tree, such as `values` and `stats['num_steps']`."""
    return [jax.tree_util.keystr(path).lstrip(".") for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def write_batch(path: Path, record: dict[str, Any], batch: PyTree) -> None:
    """**Raises:** `OSError` if the file cannot be written."""
    arrays: dict[str, Any] = dict(zip(field_names(batch), map(np.asarray, jax.tree.leaves(batch)), strict=True))
    arrays[_NAMES] = np.array(batch.names, str) if batch.names else np.empty(0, "U1")
    identity = json.dumps(record)
    arrays |= {_IDENTITY: np.array(identity), _CHECKSUM: np.array(digest(identity, arrays))}
    write_whole(path, lambda file: np.savez(file, **arrays))


def read_batch(path: Path) -> Batch:
    """**Raises:** `ValueError` for a file that is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            identity, checksum = (str(stored[name]) if name in stored else None for name in (_IDENTITY, _CHECKSUM))
            contents = {name: stored[name] for name in stored if name not in (_IDENTITY, _CHECKSUM)}
        record = None if identity is None else json.loads(identity)
    except _DAMAGED as error:
        raise ValueError(damaged(path, str(error))) from None
    if record is None:
        raise ValueError(
            f"{path} does not say which study it is of (a file of an older version, or of another program): delete it, "
            "and its toys are fitted again"
        )
    if checksum is None or checksum != digest(identity, contents):
        raise ValueError(damaged(path, "its checksum is another one"))
    names = tuple(contents.pop(_NAMES, np.empty(0, "U1")).tolist())
    return Batch(record if isinstance(record, dict) else {}, names, contents, checksum)


def read_record(path: Path) -> dict[str, Any]:
    """What a file says that it holds, without its arrays and unchecked; empty if it cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            record = json.loads(str(stored[_IDENTITY]))
    except _DAMAGED:
        return {}
    return record if isinstance(record, dict) else {}


def write_whole(path: Path, write_to: Callable[[BinaryIO], Any]) -> None:
    """Writes a file that gets its name only when it is completely on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            write_to(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def damaged(path: Path, why: str) -> str:
    return f"{path} is damaged ({why}): delete it, and its toys are fitted again; the other batches are kept"
