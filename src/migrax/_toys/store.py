"""Finished batches of toys on disk, so that an interrupted study can be resumed.

A store is a folder: `manifest.json` says what was fitted, each `batch-000000.npz` holds one batch. Files are written
under a temporary name and renamed when they are complete. Each batch records which toys of which study it holds, with a
checksum over this record and its arrays, so that a file that was damaged, renamed or moved from another study is
detected.
"""

import hashlib
import importlib.metadata
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from .._util.typing import PyTree

_FORMAT = 2  # since format 2 each batch records what it holds
_IDENTITY, _CHECKSUM = "identity", "checksum"  # entries of a batch file, beside its numbered arrays


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


class Store:
    """The stored batches of one study: see the docstring of this module."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        problem: str,
        n: int,
        batch_size: int | None,
        default: int,
        writes: bool = True,
    ):
        """Opens or creates the folder. `writes`: whether this process, and no other one, writes to it.

        **Raises:** `ValueError` for a folder with other contents, or a store of another problem, other versions or
        another batch size; `OSError` if it cannot be written.
        """
        self.path, self.problem, self.n, self.writes = Path(path), problem, n, writes
        manifest = self.path / "manifest.json"
        if not manifest.exists():
            if self.path.exists() and (not self.path.is_dir() or not all(map(_is_unfinished, self.path.iterdir()))):
                raise ValueError(
                    f"{self.path} is no store of mx.fit_toys: there is no manifest.json, but something else"
                )
            self.batch_size = min(n, default if batch_size is None else batch_size)
            if not writes:
                return
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(error.errno, f"the store {self.path} cannot be made ({error.strerror})") from error
            contents = {"format": _FORMAT, "problem": problem, "n": n, "batch_size": self.batch_size, **versions()}
            self._write(manifest, lambda file: file.write((json.dumps(contents, indent=1) + "\n").encode()))
            return
        stored = _read_manifest(manifest)
        if stored["problem"] != problem or stored["n"] != n:
            raise ValueError(
                f"the store {self.path} belongs to another problem ({stored['n']} toys, {stored['problem'][:12]}; "
                f"these are {n}, {problem[:12]}): likelihood, parameters, toys, key and options must be the same. Take "
                "another folder"
            )
        self.batch_size = int(stored["batch_size"])
        if batch_size is not None and min(n, batch_size) != self.batch_size:
            raise ValueError(
                f"the store {self.path} has batches of {self.batch_size} toys, and batch_size is {batch_size}: leave "
                "it out"
            )

    def file(self, i: int) -> Path:
        return self.path / f"batch-{i:06d}.npz"

    def has(self, i: int) -> bool:
        return self.file(i).exists()

    def identity(self, i: int) -> dict[str, Any]:
        """Returns the record of the `i`-th batch: its study, and which of the study's toys it holds."""
        first = i * self.batch_size
        return {
            "format": _FORMAT,
            "problem": self.problem,
            "first": first,
            "toys": min(self.batch_size, self.n - first),
            **versions(),
        }

    def read(self, i: int, like: PyTree) -> PyTree:
        """Reads the `i`-th batch, which has the structure, shapes and types of `like`.

        **Raises:** `ValueError` for a file that is damaged, or belongs to another study or another place in this one.
        """
        path = self.file(i)
        leaves, structure = jax.tree.flatten(like)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                identity, checksum = (str(stored[name]) if name in stored else None for name in (_IDENTITY, _CHECKSUM))
                contents = {name: stored[name] for name in stored if name not in (_IDENTITY, _CHECKSUM)}
            record = None if identity is None else json.loads(identity)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(_damaged(path, str(error))) from None
        if record is None:
            raise ValueError(
                f"{path} does not say which study it is of (a file of an older version, or of another program): delete "
                "it, and its toys are fitted again"
            )
        if checksum != digest(identity, contents):
            raise ValueError(_damaged(path, "its checksum is another one"))
        self._check_place(path, record, self.identity(i))
        arrays = [contents.get(str(k)) for k in range(len(leaves))]
        for a, leaf in zip(arrays, leaves, strict=True):
            if a is None or a.shape != leaf.shape or a.dtype != leaf.dtype:
                shape = "no array" if a is None else f"an array of shape {a.shape} and type {a.dtype}"
                raise ValueError(_damaged(path, f"{shape} where {leaf.shape}, {leaf.dtype} was expected"))
        return jax.tree.unflatten(structure, arrays)

    def _check_place(self, path: Path, record: Any, wanted: dict[str, Any]) -> None:
        """**Raises:** `ValueError` if the batch was not written for this place in this study."""
        if record == wanted:
            return
        record = record if isinstance(record, dict) else {}
        remedy = "delete it, and the toys of this place are fitted again; the other batches are kept"
        if record.get("problem") != wanted["problem"]:
            raise ValueError(
                f"{path} is of another study ({str(record.get('problem'))[:12]}; this store is of "
                f"{wanted['problem'][:12]}): put it back into its own folder, or {remedy}"
            )
        for name in ("format", *versions()):
            if record.get(name) != wanted[name]:
                raise ValueError(
                    f"{path} was written with {name} {record.get(name)}, this is {wanted[name]}: its toys would not be "
                    f"fitted the same way. Move it away, or {remedy}"
                )
        raise ValueError(
            f"{path} holds {_numbers(record)} of this study where {_numbers(wanted)} belong: it was renamed, or files "
            f"were exchanged. Give it its own name back, or {remedy}"
        )

    def write(self, i: int, batch: PyTree) -> None:
        """Stores the `i`-th batch. **Raises:** `OSError` if it cannot be written; earlier batches are kept."""
        if not self.writes:
            return
        arrays: dict[str, Any] = {str(k): np.asarray(a) for k, a in enumerate(jax.tree.leaves(batch))}
        identity = json.dumps(self.identity(i))
        arrays |= {_IDENTITY: np.array(identity), _CHECKSUM: np.array(digest(identity, arrays))}
        self._write(self.file(i), lambda file: np.savez(file, **arrays))

    def _write(self, path: Path, write_to: Any) -> None:
        """Writes a file that gets its name only when it is completely on the disk."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                write_to(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            done = len(list(self.path.glob("batch-*.npz")))
            raise OSError(
                error.errno, f"{path} cannot be written ({error.strerror}); the {done} batches in the store are kept"
            ) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest. **Raises:** `ValueError` if it is damaged, or of another format or other package versions."""
    try:
        contents = json.loads(path.read_text())
        written = int(contents["format"])  # other formats may lack the entries of this one
        kept = (
            {name: contents[name] for name in ("problem", "n", "batch_size", *versions())} if written == _FORMAT else {}
        )
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): the batches beside it cannot be used") from None
    if written != _FORMAT:
        raise ValueError(
            f"the store {path.parent} is of format {written}, this migrax reads format {_FORMAT}: "
            f"{'a newer' if written > _FORMAT else 'an older'} version wrote it. Take another folder, or that version"
        )
    for name, value in versions().items():
        if kept[name] != value:
            raise ValueError(
                f"the store {path.parent} was written with {name} {kept[name]}, this is {value}: its toys would not "
                "be fitted the same way. Take another folder"
            )
    return kept


def _damaged(path: Path, why: str) -> str:
    return f"{path} is damaged ({why}): delete it, and its toys are fitted again; the other batches are kept"


def _numbers(identity: dict[str, Any]) -> str:
    first, toys = identity.get("first"), identity.get("toys")
    return f"toys {first} to {first + toys - 1}" if isinstance(first, int) and isinstance(toys, int) else "other toys"


def _is_unfinished(path: Path) -> bool:
    """Returns whether this is an unfinished manifest, left by a process that was killed."""
    return path.name.startswith(".manifest.json.")


def versions() -> dict[str, str]:
    """Returns the package versions on which the last bits of a fit depend."""
    return {
        "migrax": importlib.metadata.version("migrax"),
        "jax": jax.__version__,
        "equinox": eqx.__version__,
        "optimistix": optx.__version__,
    }
