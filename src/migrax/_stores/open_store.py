"""`open_store`: what a store of toys holds, also while jobs still write to it."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from .._display.rounding import with_error
from .._display.table import Table
from .._fit.status import Status, status_counts
from .batch_file import read_batch
from .store import FITS, MANIFEST, NAME, batch_path, check_place, identity, is_short, read_manifest

T = TypeVar("T", bound="AbstractStored")

_BLANK = {"values": np.empty((0, 0)), "errors": np.empty((0, 0)), "nll": np.empty(0)}
_BLANK |= {"status": np.empty(0, int), "valid": np.empty(0, bool)}


class AbstractStored:
    """The batches of one study on disk."""

    path: Path | None
    problem: str
    n: int
    batch_size: int
    blank: ClassVar[Mapping[str, np.ndarray]]  # the arrays of a batch without toys

    optional: ClassVar[Sequence[str]] = ()

    def __init__(self, path: Path | None, manifest: Mapping[str, Any], files: Mapping[int, Path]):
        self.path, self.problem = path, str(manifest["problem"])
        self.n, self.batch_size = int(manifest["n"]), int(manifest["batch_size"])
        self._manifest, self._files = dict(manifest), dict(sorted(files.items()))
        self._read: dict[str, np.ndarray] = {}
        self._names: tuple[str, ...] | None = None

    @property
    def batches(self) -> tuple[int, ...]:
        return tuple(self._files)

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(i for i in range(-(-self.n // self.batch_size)) if i not in self._files)

    @property
    def numbers(self) -> Int[np.ndarray, " m"]:
        parts = [i * self.batch_size + np.arange(self._toys(i)) for i in self._files]
        return np.concatenate([np.empty(0, int), *parts])

    @property
    def names(self) -> tuple[str, ...]:
        self._load()
        assert self._names is not None
        return self._names

    def __len__(self) -> int:
        return sum(map(self._toys, self._files))

    def _toys(self, i: int) -> int:
        return min(self.batch_size, self.n - i * self.batch_size)

    def _load(self) -> dict[str, np.ndarray]:
        """The arrays of all batches. **Raises:** `ValueError` for a file that is damaged or in the wrong place."""
        if self._names is None:
            parts: dict[str, list[np.ndarray]] = {name: [] for name in self.blank}
            names: tuple[str, ...] = ()
            for i, path in self._files.items():
                batch = read_batch(path)
                check_place(path, batch.record, identity(self._manifest, i))
                names = batch.names
                for name in [*self.blank, *(name for name in self.optional if name in batch.arrays)]:
                    parts.setdefault(name, []).append(batch.arrays[name][: self._toys(i)])
            self._read = {name: np.concatenate(some) if some else self.blank[name] for name, some in parts.items()}
            self._names = names
        return self._read


class ToyStore(AbstractStored):
    """The fits of a study of toys on disk: what `mx.open_store` and `mx.merge` return.

    **Attributes**, of the toys that were there when it was opened, `m` of them with `k` free parameters:

    - `path`: the folder; `None` of stores that were merged without one.
    - `n`, `batch_size`: the number of toys of the whole study, and of a batch.
    - `names`: the free parameters; empty as long as no batch is stored.
    - `batches`: the numbers of the batches that are stored. `missing`: those that are not.
    - `numbers`: shape `(m,)`, which toys of the study these are.
    - `values`, `errors`: shape `(m, k)`, in the order of `names`.
    - `nll`, `status`, `valid`: shape `(m,)`, as of a `FitResult`.
    - `minos`: `None`, or the lower and upper MINOS errors, each of shape `(m, k)`.

    It prints how far the study is, and the mean and spread of the values of the valid fits. `len(store)` is m. All that
    `mx.fit_toys` returns is returned by it, called with the same arguments and this `store`.
    """

    blank: ClassVar[Mapping[str, np.ndarray]] = _BLANK
    optional: ClassVar[Sequence[str]] = ("minos[0]", "minos[1]")

    @property
    def values(self) -> Float[np.ndarray, "m k"]:
        return self._load()["values"]

    @property
    def errors(self) -> Float[np.ndarray, "m k"]:
        return self._load()["errors"]

    @property
    def nll(self) -> Float[np.ndarray, " m"]:
        return self._load()["nll"]

    @property
    def status(self) -> Int[np.ndarray, " m"]:
        return self._load()["status"]

    @property
    def minos(self) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "m k"]] | None:
        arrays = self._load()
        return (arrays["minos[0]"], arrays["minos[1]"]) if "minos[0]" in arrays else None

    @property
    def valid(self) -> Bool[np.ndarray, " m"]:
        return self._load()["valid"]

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        where = "Toys in merged stores" if self.path is None else f"Toys in {self.path}"
        title = f"{where}: {len(self)} of {self.n}, {int(np.sum(self.valid))} valid"
        failures = status_counts(self.status[self.status != int(Status.VALID)])
        title += "".join(f", {count} {phrase}" for phrase, count in failures)
        rows = [[name, *_moments(column)] for name, column in zip(self.names, self.values[self.valid].T, strict=True)]
        return Table(title, ["Name", "Mean", "Spread"], rows)


def _moments(values: Float[np.ndarray, " m"]) -> tuple[str, str]:
    """The mean and the standard deviation, with their errors."""
    if values.size < 2:
        return (f"{values[0]:.4g}" if values.size else "", "")
    spread = float(np.std(values, ddof=1))
    error = spread / np.sqrt(values.size)
    return with_error(float(np.mean(values)), error), with_error(spread, error / np.sqrt(2))


class StatisticStore(AbstractStored):
    """The toys of one hypothesis and one tested value on disk: one of the `studies` of an `mx.StudyStore`.

    **Attributes**, of the `m` toys that were there when it was opened:

    - `path`, `n`, `batch_size`, `batches`, `missing`, `numbers`: as of an `mx.ToyStore`.
    - `names`: the parameters of interest; empty as long as no batch is stored.
    - `what`: the statistic, the tested value, and where the toys are drawn, in words.
    - `values`: shape `(m,)`, the statistic of each toy; NaN where `status`, shape `(m,)`, an `mx.Status` number, says
        that its fits failed.
    """

    blank: ClassVar[Mapping[str, np.ndarray]] = {"values": np.empty(0), "status": np.empty(0, int)}

    @property
    def what(self) -> str:
        return self._manifest["about"].what

    @property
    def values(self) -> Float[np.ndarray, " m"]:
        return self._load()["values"]

    @property
    def status(self) -> Int[np.ndarray, " m"]:
        return self._load()["status"]

    def __repr__(self) -> str:
        return f"StatisticStore({self.what}: {len(self)} of {self.n} toys)"


def _by_numbers(text: str) -> list[tuple[str, float]]:
    """A key by which texts are sorted, with the numbers in them by size."""
    parts = re.split(r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)", text)
    return [("", float(part)) if i % 2 else (part, 0.0) for i, part in enumerate(parts)]


class StudyStore:
    """The toys of tests on disk, of `mx.Toys(n, key, store=...)`: what `mx.open_store` and `mx.merge` return for them.

    **Attributes:**

    - `path`: the folder; `None` of stores that were merged without one.
    - `studies`: a tuple with an `mx.StatisticStore` for each hypothesis and each tested value.

    It prints how far each is. A test with `mx.Toys(n, key, store=path)` reads what is there, and makes the rest.
    """

    path: Path | None
    studies: tuple[StatisticStore, ...]

    def __init__(self, path: Path | None, studies: Sequence[StatisticStore]):
        self.path = path
        self.studies = tuple(sorted(studies, key=lambda study: _by_numbers(study.what)))

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        where = "Studies in merged stores" if self.path is None else f"Studies in {self.path}"
        rows = []
        for study in self.studies:
            failed = int(np.sum(study.status != int(Status.VALID)))
            rows.append([study.what, f"{len(study)} of {study.n}", f"{failed}" if failed else ""])
        return Table(where, ["", "Done", "Failed"], rows)


def open_store(path: str | os.PathLike[str]) -> ToyStore | StudyStore:
    """What a store of toys holds now. It may be opened while jobs write to it, and again to see more.

    ```python
    print(mx.open_store("toys"))
    ```

    **Arguments:**

    - `path`: the folder.

    **Returns:** a `ToyStore` of the fits of `mx.fit_toys`, or a `StudyStore` of the toys of tests.

    **Raises:** `FileNotFoundError`; `ValueError` for a folder that is no store, or one of another format or other
    versions; for a batch that is damaged or of another study as soon as its numbers are asked for.
    """
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"there is no store {folder}")
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder / MANIFEST)
        if manifest["about"].what != FITS:
            raise ValueError(f"{folder} is one study of several: open the folder that they are in, {folder.parent}")
        return _opened(ToyStore, folder)
    if not (studies := studies_in(folder)):
        raise ValueError(f"{folder} is no store of toys: there is no {MANIFEST}")
    return StudyStore(folder, [_opened(StatisticStore, study) for study in studies])


def _opened(kind: type[T], folder: Path) -> T:
    manifest = read_manifest(folder / MANIFEST)
    return kind(folder, manifest, files_of(folder, manifest))


def studies_in(folder: Path) -> list[Path]:
    """The stores of the single studies in a folder of those of tests."""
    if (folder / MANIFEST).is_file() or not folder.is_dir():
        return []
    paths = (path for path in folder.iterdir() if re.fullmatch(f"[0-9a-f]{{{NAME}}}", path.name))
    return sorted(path for path in paths if (path / MANIFEST).is_file())


def files_of(folder: Path, manifest: dict[str, Any]) -> dict[int, Path]:
    """The file of each batch of a store that is there, but for that of a last batch which the extended study lacks."""
    files = {}
    for i in range(-(-manifest["n"] // manifest["batch_size"])):
        path = batch_path(folder, i)
        if path.exists() and not is_short(path, identity(manifest, i)):
            files[i] = path
    return files
