"""Finished batches of toys on disk, so that an interrupted study goes on where it was.

A store is a folder: `manifest.json` says what was fitted, each `batch-000000.npz` holds one batch. Files appear under
their names only when they are whole (they are written beside and renamed), and NumPy's format has checksums, so that a
file that was damaged later is told.
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

from ._typing import PyTree

_FORMAT = 1


def digest(*things: Any) -> str:
    """A fingerprint of texts, numbers and arrays, keys of `jax.random` included."""
    whole = hashlib.sha256()
    for leaf in jax.tree.leaves(things):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, jax.Array | np.ndarray):
            array = np.ascontiguousarray(leaf)
            whole.update(f"{array.dtype.str}{array.shape}".encode())
            whole.update(array.tobytes())
        else:
            whole.update(repr(leaf).encode())
        whole.update(b"\0")
    return whole.hexdigest()


class Store:
    """The batches of one study: see the module."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        problem: str,
        n: int,
        batch_size: int | None,
        default: int,
        writes: bool = True,
    ):
        """Opens the folder, or makes it. `writes`: this process does, and not another.

        **Raises:** `ValueError` for a folder with something else in it, another problem, other versions or another
        batch size; `OSError` where it cannot be written.
        """
        self.path, self.writes = Path(path), writes
        manifest = self.path / "manifest.json"
        if not manifest.exists():
            if self.path.exists() and (not self.path.is_dir() or not all(map(_begun, self.path.iterdir()))):
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
            told = {"format": _FORMAT, "problem": problem, "n": n, "batch_size": self.batch_size, **versions()}
            self._write(manifest, lambda file: file.write((json.dumps(told, indent=1) + "\n").encode()))
            return
        try:
            told = json.loads(manifest.read_text())
            kept = {name: told[name] for name in ("format", "problem", "n", "batch_size", *versions())}
        except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{manifest} is damaged ({error}): the batches beside it cannot be used") from None
        wanted = {"format": _FORMAT, **versions()}
        for name, value in wanted.items():
            if kept[name] != value:
                raise ValueError(
                    f"the store {self.path} was written with {name} {kept[name]}, this is {value}: its toys would not "
                    "be fitted the same way. Take another folder"
                )
        if kept["problem"] != problem or kept["n"] != n:
            raise ValueError(
                f"the store {self.path} is of another problem ({kept['n']} toys, {kept['problem'][:12]}; these are "
                f"{n}, {problem[:12]}): likelihood, parameters, toys, key and options must be the same. Take another "
                "folder"
            )
        self.batch_size = int(kept["batch_size"])
        if batch_size is not None and min(n, batch_size) != self.batch_size:
            raise ValueError(
                f"the store {self.path} has batches of {self.batch_size} toys, and batch_size is {batch_size}: leave "
                "it out"
            )

    def file(self, i: int) -> Path:
        return self.path / f"batch-{i:06d}.npz"

    def has(self, i: int) -> bool:
        return self.file(i).exists()

    def read(self, i: int, like: PyTree) -> PyTree:
        """The `i`-th batch, which has the structure, shapes and types of `like`.

        **Raises:** `ValueError` for a file that is damaged, or not of this study.
        """
        path = self.file(i)
        leaves, structure = jax.tree.flatten(like)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                found = [kept[str(k)] for k in range(len(leaves))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} is damaged ({error}): delete it, and its toys are fitted again; the other batches are kept"
            ) from None
        for a, leaf in zip(found, leaves, strict=True):
            if a.shape != leaf.shape or a.dtype != leaf.dtype:
                raise ValueError(
                    f"{path} is damaged (an array of shape {a.shape} where {leaf.shape} was expected): delete it, and "
                    "its toys are fitted again; the other batches are kept"
                )
        return jax.tree.unflatten(structure, found)

    def write(self, i: int, batch: PyTree) -> None:
        """**Raises:** `OSError` where it cannot be written; the batches before it are kept."""
        if not self.writes:
            return
        arrays: dict[str, Any] = {str(k): np.asarray(a) for k, a in enumerate(jax.tree.leaves(batch))}
        self._write(self.file(i), lambda file: np.savez(file, **arrays))

    def _write(self, path: Path, put: Any) -> None:
        """Under its name only when all of it is on the disk."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                put(file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            done = len(list(self.path.glob("batch-*.npz")))
            raise OSError(
                error.errno, f"{path} cannot be written ({error.strerror}); the {done} batches in the store are kept"
            ) from error


def _begun(path: Path) -> bool:
    """Whether this is a manifest that nobody finished: the process that wrote it was killed."""
    return path.name.startswith(".manifest.json.")


def versions() -> dict[str, str]:
    """On what the last bits of a fit depend."""
    return {
        "migrax": importlib.metadata.version("migrax"),
        "jax": jax.__version__,
        "equinox": eqx.__version__,
        "optimistix": optx.__version__,
    }
