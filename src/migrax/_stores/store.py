"""Finished batches of toys on disk, so that an interrupted study can be resumed, extended, and shared among jobs.

A store is a folder: `manifest.json` says what was fitted, each `batch-000000.npz` holds one batch (`batch_file.py`).
Files are written under a temporary name and renamed when they are complete. Each batch records which toys of which
study it holds, so that a file that was damaged, renamed or moved from another study is detected.
"""

import functools
import importlib.metadata
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optimistix as optx

from .._util.typing import PyTree
from .batch_file import damaged, field_names, read_batch, read_record, write_batch, write_whole
from .claims import Claims

FORMAT = 4  # since format 3 the arrays of a batch have names, since format 4 a manifest says what a study is of
MANIFEST = "manifest.json"
NAME = 16  # characters of a fingerprint that name the folder of one study among others
FITS = "fits"  # what a store of `mx.fit_toys` is of

_APART = 64  # steps between two points that are one, up to the rounding of the fits that found them


class About(NamedTuple):
    """What a study is of.

    - `what`: in words.
    - `point`, `steps`: where the toys of a test are drawn. The fits that find this point may differ by rounding between
        machines, so it is no part of the problem's fingerprint, but compared: within some of these steps.
    - `inputs`: the fingerprint of each input, to say which of them differ.
    - `shard`: `(i, n)`, of the store of a job that makes the i-th of n parts.
    """

    what: str
    point: Sequence[float] = ()
    steps: Sequence[float] = ()
    inputs: Mapping[str, str] = MappingProxyType({})
    shard: tuple[int, int] | None = None

    def is_apart(self, other: "About") -> bool:
        """Whether the toys of the same study are drawn elsewhere, such as at another minimum."""
        if len(self.point) != len(other.point):
            return True
        steps, point = np.asarray(self.steps), np.asarray(self.point)
        return bool(np.any(np.abs(point - other.point) > np.where(steps > 0, _APART * steps, 1e-6 * np.abs(point))))

    def different(self, other: "About") -> str:
        """The inputs that differ, in words."""
        names = [name for name, value in self.inputs.items() if other.inputs.get(name) != value]
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


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
        is_shared: bool = True,
        about: About | None = None,
    ):
        """Opens or creates the folder, or extends the study by more toys.

        `writes`: whether this process writes to it. `is_shared`: whether other jobs may write to it, too.

        **Raises:** `ValueError` for a folder with other contents, or a store of another problem, other versions, more
        toys or another batch size; `OSError` if it cannot be written.
        """
        self.path, self.problem, self.n, self.writes = Path(path), problem, n, writes
        self.about = about = About("") if about is None else about
        self.claims = Claims(self.path) if writes and is_shared else None
        manifest = self.path / MANIFEST
        # looked at before the manifest: what another job makes in the meantime is not in the way
        before = list(self.path.iterdir()) if self.path.is_dir() else []
        if not manifest.exists():
            if not all(map(_is_unfinished, before)) or (self.path.exists() and not self.path.is_dir()):
                raise ValueError(f"{self.path} is no store of mx.fit_toys: there is no {MANIFEST}, but something else")
            self.batch_size = min(n, default if batch_size is None else batch_size)
            if writes:
                make_store(self.path, self.manifest())
            return
        stored = read_manifest(manifest)
        self.batch_size = int(stored["batch_size"])
        if stored["problem"] != problem:
            raise ValueError(
                f"the store {self.path} belongs to another problem ({stored['n']} toys, {stored['problem'][:12]}; "
                f"these are {n}, {problem[:12]}): {about.different(stored['about'])} must be the same. Take another "
                "folder"
            )
        if about.is_apart(stored["about"]):
            raise ValueError(
                f"the store {self.path} has toys of {about.what} that are drawn at another point, as if another "
                "minimum of the data had been found: give the same start, or take another folder"
            )
        if stored["n"] > n:
            raise ValueError(
                f"the store {self.path} is of {stored['n']} toys, these are {n}: ask for as many or more "
                f"(mx.open_store({str(self.path)!r}) shows what is there)"
            )
        if batch_size is not None and min(n, batch_size) != self.batch_size:
            raise ValueError(
                f"the store {self.path} has batches of {self.batch_size} toys, and batch_size is {batch_size}: leave "
                "it out"
            )
        if stored["n"] < n and writes:
            write_manifest(self.path, self.manifest())

    def manifest(self) -> dict[str, Any]:
        study = {"problem": self.problem, "n": self.n, "batch_size": self.batch_size}
        return {"format": FORMAT, **study, **versions(), "about": self.about}

    def file(self, i: int) -> Path:
        return batch_path(self.path, i)

    def has(self, i: int) -> bool:
        """Whether the `i`-th batch is stored. One of fewer toys, the last of a study that was extended, is not."""
        return self.file(i).exists() and not is_short(self.file(i), self.identity(i))

    def identity(self, i: int) -> dict[str, Any]:
        """Returns the record of the `i`-th batch: its study, and which of the study's toys it holds."""
        return identity(self.manifest(), i)

    def read(self, i: int, like: PyTree) -> PyTree:
        """Reads the `i`-th batch, which has the structure, shapes and types of `like`.

        **Raises:** `ValueError` for a file that is damaged, or belongs to another study or another place in this one.
        """
        path = self.file(i)
        batch = read_batch(path)
        check_place(path, batch.record, self.identity(i))
        leaves, structure = jax.tree.flatten(like)
        arrays = [batch.arrays.get(name) for name in field_names(like)]
        for a, leaf in zip(arrays, leaves, strict=True):
            if a is None or a.shape != leaf.shape or a.dtype != leaf.dtype:
                shape = "no array" if a is None else f"an array of shape {a.shape} and type {a.dtype}"
                raise ValueError(damaged(path, f"{shape} where {leaf.shape}, {leaf.dtype} was expected"))
        return jax.tree.unflatten(structure, arrays)

    def write(self, i: int, batch: PyTree) -> None:
        """Stores the `i`-th batch. **Raises:** `OSError` if it cannot be written; earlier batches are kept."""
        if not self.writes:
            return
        try:
            write_batch(self.file(i), self.identity(i), batch)
        except OSError as error:
            done = len(list(self.path.glob("batch-*.npz")))
            raise OSError(
                error.errno,
                f"{self.file(i)} cannot be written ({error.strerror}); the {done} batches in the store are kept",
            ) from error


def warn_of_others(folder: Path, problem: str, about: About) -> None:
    """Warns if a folder of many studies has one of the same name, but of other input: this one is made anew."""
    if (folder / problem[:NAME]).exists() or not folder.is_dir():
        return
    for manifest in folder.glob(f"*/{MANIFEST}"):
        try:
            other = read_manifest(manifest)["about"]
        except (OSError, ValueError):
            continue
        if other.what == about.what and (differ := about.different(other)):
            warnings.warn(
                f"the store {folder} holds the same of other {differ}, which is not read: all is made anew beside it. "
                "Is this the folder, and the input, that was meant?",
                stacklevel=2,
            )
            return


def batch_path(folder: Path, i: int) -> Path:
    return folder / f"batch-{i:06d}.npz"


def size_of_batches(path: str | os.PathLike[str]) -> int | None:
    """The number of toys of a batch of a store that is there."""
    manifest = Path(path) / MANIFEST
    return int(read_manifest(manifest)["batch_size"]) if manifest.exists() else None


def identity(manifest: dict[str, Any], i: int) -> dict[str, Any]:
    """The record of the `i`-th batch of a study: which of its toys it holds."""
    first = i * manifest["batch_size"]
    toys = min(manifest["batch_size"], manifest["n"] - first)
    return {"format": FORMAT, "problem": manifest["problem"], "first": first, "toys": toys, **versions()}


def is_short(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether a file is the last batch of the study before it was extended, with fewer toys than belong there."""
    record = read_record(path)
    toys = record.get("toys")
    return isinstance(toys, int) and toys < wanted["toys"] and record | {"toys": wanted["toys"]} == wanted


def make_store(path: Path, manifest: dict[str, Any]) -> None:
    """**Raises:** `OSError` if the folder cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"the store {path} cannot be made ({error.strerror})") from error
    write_manifest(path, manifest)


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    about = manifest["about"]._asdict()
    text = (json.dumps(manifest | {"about": about | {"inputs": dict(about["inputs"])}}, indent=1) + "\n").encode()
    try:
        write_whole(path / MANIFEST, lambda file: file.write(text))
    except OSError as error:
        raise OSError(error.errno, f"{path / MANIFEST} cannot be written ({error.strerror})") from error


def check_place(path: Path, record: dict[str, Any], wanted: dict[str, Any]) -> None:
    """**Raises:** `ValueError` if the batch was not written for this place in this study."""
    if record == wanted:
        return
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


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest. **Raises:** `ValueError` if it is damaged, or of another format or other package versions."""
    try:
        contents = json.loads(path.read_text())
        written = int(contents["format"])  # other formats may lack the entries of this one
        wanted = ("format", "problem", "n", "batch_size", *versions()) if written == FORMAT else ()
        kept = {name: contents[name] for name in wanted}
        about = About(**contents["about"]) if wanted else About("")
        kept["about"] = about._replace(
            shard=None if about.shard is None else (int(about.shard[0]), int(about.shard[1]))
        )
        if wanted and not _is_right(kept):
            raise ValueError("numbers that cannot be")
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): the batches beside it cannot be used") from None
    if written != FORMAT:
        raise ValueError(
            f"the store {path.parent} is of format {written}, this migrax reads format {FORMAT}: "
            f"{'a newer' if written > FORMAT else 'an older'} version wrote it. Take another folder, or that version"
        )
    for name, value in versions().items():
        if kept[name] != value:
            raise ValueError(
                f"the store {path.parent} was written with {name} {kept[name]}, this is {value}: its toys would not "
                "be fitted the same way. Take another folder"
            )
    return kept


def _is_right(manifest: dict[str, Any]) -> bool:
    """Whether the values of a manifest are of the right types and sizes."""
    about, numbers = manifest["about"], (manifest["n"], manifest["batch_size"])
    positions = [*about.point, *about.steps]
    return (
        all(isinstance(number, int) and number >= 1 for number in numbers)
        and isinstance(manifest["problem"], str)
        and isinstance(about.what, str)
        and isinstance(about.inputs, dict)
        and len(about.point) == len(about.steps)
        and all(isinstance(x, int | float) for x in positions)
    )


def _numbers(identity: dict[str, Any]) -> str:
    first, toys = identity.get("first"), identity.get("toys")
    return f"toys {first} to {first + toys - 1}" if isinstance(first, int) and isinstance(toys, int) else "other toys"


def _is_unfinished(path: Path) -> bool:
    """Returns whether this is an unfinished manifest, left by a process that was killed."""
    return path.name.startswith(".manifest.json.")


@functools.cache
def versions() -> dict[str, str]:
    """Returns the package versions on which the last bits of a fit depend."""
    return {
        "migrax": importlib.metadata.version("migrax"),
        "jax": jax.__version__,
        "equinox": eqx.__version__,
        "optimistix": optx.__version__,
    }
