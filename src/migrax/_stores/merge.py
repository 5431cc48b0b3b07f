"""`merge`: the stores of the shards of one study as one."""

import os
import secrets
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .batch_file import read_batch
from .open_store import StatisticStore, StudyStore, ToyStore, files_of, studies_in
from .shard import batches_of
from .store import FITS, MANIFEST, batch_path, check_place, identity, make_store, read_manifest, write_manifest

_LISTED = 10  # complaints in an error


def merge(
    stores: Sequence[str | os.PathLike[str]], into: str | os.PathLike[str] | None = None, *, leave_out: bool = False
) -> ToyStore | StudyStore:
    """Joins the stores of the shards of one study of toys, of tests by toys or of profiles: bit for bit that of one run
    with the same batch size.

    ```python
    mx.merge(["job-0", "job-1", "job-2"], into="toys")
    fits = mx.fit_toys(nll, result.params, toys, covariance=result.covariance, store="toys")
    ```

    **Arguments:**

    - `stores`: the folders; their number and order do not matter, and neither does a batch that two of them hold with
        the same numbers.
    - `into`: the folder of the merged store, which is made, or completed if it is of the same study. `None`: nothing is
        written.
    - `leave_out`: `True` to leave out what is at fault, and to allow for missing batches, which a call of `mx.fit_toys`
        with the merged store then fits. Stores of another study than most of them are left out.

    **Returns:** a `ToyStore` of all batches, or a `StudyStore` of tests and profiles; of the stores of a study that was
    extended, of the largest number of toys.

    **Raises:** `ValueError`, with the names of all of them, for stores that are missing, damaged, of other studies or
    versions, for batches that are missing, damaged, in a wrong place, or twice there with other numbers. `OSError` if
    `into` cannot be written.

    **Warns** of all that is left out.
    """
    folders = [Path(store) for store in ([stores] if isinstance(stores, str | os.PathLike) else stores)]
    if not folders:
        raise ValueError("merge takes the folders of stores, got none")
    target = None if into is None else Path(into)
    faults: list[str] = []
    is_of_tests = _is_of_tests(folders, target)
    merged = _of_tests(folders, target, faults) if is_of_tests else {"": _study_of(folders, target, faults)}
    studies = {name: study for name, study in merged.items() if study is not None}
    faults += _missing(list(studies.values()))
    if faults:
        _tell(faults, leave_out and bool(studies))
    kind = StatisticStore if is_of_tests else ToyStore
    found = [study.stored(kind, None if target is None else target / name) for name, study in studies.items()]
    return StudyStore(target, found) if is_of_tests else found[0]


def _is_of_tests(folders: list[Path], target: Path | None) -> bool:
    """Whether these are stores of tests or profiles. **Raises:** `ValueError` if some are, and others are of fits."""
    every = [*folders, *([] if target is None else [target])]
    fits, tests = [f"{f}" for f in every if (f / MANIFEST).is_file()], [f"{f}" for f in every if studies_in(f)]
    is_other = target is not None and target.is_dir() and not studies_in(target) and any(target.iterdir())
    if tests and not fits and is_other:
        raise ValueError(f"{target} is no store of tests, but holds something else: take another folder")
    single = [f for f in fits if _what(Path(f)) not in (FITS, None)]
    if single:
        raise ValueError(f"{', '.join(single)} hold single studies: merge the folders that they are in")
    if fits and tests:
        raise ValueError(
            f"these stores cannot be merged: {', '.join(fits)} hold fits of mx.fit_toys, {', '.join(tests)} toys of "
            "tests or points of profiles. Merge each kind alone"
        )
    return bool(tests)


def _what(folder: Path) -> str | None:
    """What a store is of, if that can be read."""
    try:
        return read_manifest(folder / MANIFEST)["about"].what
    except ValueError:
        return None


def _tell(faults: list[str], leave_out: bool) -> None:
    more = [f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
    listed = [*faults[:_LISTED], *more]
    if not leave_out:
        remedy = "(merge(..., leave_out=True) takes what is right)"
        raise ValueError("\n".join(["these stores cannot be merged:", *listed, remedy]))
    warnings.warn("\n".join(["left out of the merged store:", *listed]), stacklevel=3)


class _Study(NamedTuple):
    """What is right of one study."""

    manifest: dict[str, Any]
    files: dict[int, Path]
    missing: list[int]
    parts: int | None  # into how many shards the study was divided

    def stored(self, kind: type[Any], target: Path | None) -> Any:
        """The study as one store: in the folder `target`, if any."""
        if target is None:
            return kind(None, self.manifest, self.files)
        _written(target, self.manifest, self.files)
        return kind(target, self.manifest, {i: batch_path(target, i) for i in self.files})


def _of_tests(folders: list[Path], target: Path | None, faults: list[str]) -> dict[str, _Study | None]:
    """The studies of tests, by the names of their folders."""
    by_name: dict[str, list[Path]] = {}
    for folder in folders:
        if not studies_in(folder):
            what = "holds no toys of tests, as others do" if folder.is_dir() else "is no folder"
            faults.append(f"{folder} {what}")
    for study in _of_same_input(folders, faults):
        by_name.setdefault(study.name, []).append(study)
    return {
        name: _study_of(studies, None if target is None else target / name, faults)
        for name, studies in sorted(by_name.items())
    }


def _of_same_input(folders: list[Path], faults: list[str]) -> list[Path]:
    """The single studies in these folders. Where a folder has, in place of the study that most of them have, one of the
    same name with other input, this is left out, and the folder named once."""
    studies = [study for folder in folders for study in studies_in(folder)]
    about = {study: manifest["about"] for study, manifest in _manifests(studies, []).items()}
    usual = {}
    for what in {a.what for a in about.values()}:
        (name, _), *_ = Counter(study.name for study, a in about.items() if a.what == what).most_common(1)
        usual[what] = next(study for study in studies if study.name == name)
    strange = {study: usual[a.what] for study, a in about.items() if study.with_name(usual[a.what].name) not in about}
    for folder in dict.fromkeys(study.parent for study in strange):
        study, other = next((study, other) for study, other in strange.items() if study.parent == folder)
        differ = about[other].different(about[study])
        faults.append(f"{folder} is of another study than {other.parent}: other {differ}{_exactly(differ)}")
    return [study for study in studies if study not in strange]


def _exactly(differ: str) -> str:
    """What to do about an input that each job has computed for itself."""
    for what in ("covariance", "result"):
        if what in differ:
            return f"; the {what} must be the same to the last bit: save the fit once, and load it in each job"
    return ""


def _missing(studies: list[_Study]) -> list[str]:
    """What is said of batches that no store has: the same batches of several studies in one sentence."""
    by_batches: dict[tuple[int, ...], list[_Study]] = {}
    for study in studies:
        if study.missing:
            by_batches.setdefault(tuple(study.missing), []).append(study)
    faults = []
    for batches, of in by_batches.items():
        first, more = of[0].manifest["about"], len(of) - 1
        others = f" and {more} other stud{'y' if more == 1 else 'ies'}" if more else ""
        of_what = "" if first.what == FITS else f" of {first.what}{others}"
        faults.append(f"batches{of_what} that are in none of the stores: {_ranges(list(batches))}{_shards(of[0])}")
    return faults


def _shards(study: _Study) -> str:
    """Which shards the missing batches are of, if that is known."""
    if study.parts is None:
        return ""
    size = study.manifest["batch_size"]
    n_batches = -(-study.manifest["n"] // size)
    if study.parts > n_batches:
        return ""
    of = [i for i in range(study.parts) if set(batches_of((i, study.parts), n_batches, size)) & set(study.missing)]
    return f" (of shard{'s' if len(of) > 1 else ''} {_ranges(of)} of {study.parts})"


def _study_of(folders: list[Path], target: Path | None, faults: list[str]) -> _Study | None:
    """One study, of all its stores and what is in `target` already; adds what is at fault to `faults`."""
    if target is not None and (target / MANIFEST).exists() and target not in folders:
        folders = [target, *folders]
    manifests = _manifests(folders, faults)
    if not manifests:
        return None
    manifest, manifests = _of_one_study(manifests, faults)
    files, suspect = _files(manifest, manifests, faults)
    missing = [i for i in range(-(-manifest["n"] // manifest["batch_size"])) if i not in files and i not in suspect]
    parts = {m["about"].shard[1] for m in manifests.values() if m["about"].shard is not None}
    whole = manifest | {"about": manifest["about"]._replace(shard=None)}
    return _Study(whole, files, missing, parts.pop() if len(parts) == 1 else None)


def _manifests(folders: list[Path], faults: list[str]) -> dict[Path, dict[str, Any]]:
    """What each store says of its study."""
    found = {}
    for folder in folders:
        try:
            found[folder] = read_manifest(folder / MANIFEST)
        except OSError:
            what = f"is no store of mx.fit_toys: there is no {MANIFEST}" if folder.is_dir() else "is no folder"
            faults.append(f"{folder} {what}")
        except ValueError as error:
            faults.append(str(error))
    return found


def _of_one_study(
    manifests: dict[Path, dict[str, Any]], faults: list[str]
) -> tuple[dict[str, Any], dict[Path, dict[str, Any]]]:
    """The study that most of the stores are of, with the largest of their numbers of toys, and these stores."""
    studies = Counter(map(_study, manifests.values()))
    study = studies.most_common(1)[0][0]
    first = next(folder for folder, manifest in manifests.items() if _study(manifest) == study)
    chosen = {folder: manifest for folder, manifest in manifests.items() if _study(manifest) == study}
    for folder, other in manifests.items():
        if folder not in chosen:
            faults.append(f"{folder} is of another study than {first}: {_difference(manifests[first], other)}")
        elif manifests[first]["about"].is_apart(other["about"]):
            what = other["about"].what
            faults.append(f"{folder}: the toys of {what} are drawn at another point than in {first}")
            del chosen[folder]
    return manifests[first] | {"n": max(manifest["n"] for manifest in chosen.values())}, chosen


def _study(manifest: dict[str, Any]) -> tuple[Any, ...]:
    """What the stores of one study have in common: all but the number of its toys, and the last bits of the point at
    which those of a test are drawn."""
    return tuple(value for name, value in sorted(manifest.items()) if name not in ("n", "about"))


def _files(manifest: dict[str, Any], stores: Iterable[Path], faults: list[str]) -> tuple[dict[int, Path], set[int]]:
    """The file of each batch, and the batches with a file that is at fault."""
    files: dict[int, Path] = {}
    checksums: dict[int, str] = {}
    differ: set[int] = set()
    suspect: set[int] = set()
    for folder in stores:
        for i, path in files_of(folder, manifest).items():
            try:
                batch = read_batch(path)
                check_place(path, batch.record, identity(manifest, i))
            except ValueError as error:
                faults.append(str(error))
                suspect.add(i)
                continue
            if checksums.setdefault(i, batch.checksum) != batch.checksum:
                faults.append(
                    f"{path} and {files[i]} hold the same toys with other numbers, as of another kind of processor: "
                    "leave out one of the stores"
                )
                differ.add(i)
            files.setdefault(i, path)
    return {i: path for i, path in files.items() if i not in differ}, suspect | differ


def _written(target: Path, manifest: dict[str, Any], files: dict[int, Path]) -> None:
    if target.exists() and not (target / MANIFEST).exists() and any(target.iterdir()):
        raise ValueError(f"{target} is no store of mx.fit_toys: there is no {MANIFEST}, but something else")
    if not (target / MANIFEST).exists():
        make_store(target, manifest)
    elif read_manifest(target / MANIFEST)["n"] < manifest["n"]:
        write_manifest(target, manifest)
    for i, path in files.items():
        place = batch_path(target, i)
        if path == place:
            continue
        temporary = place.with_name(f".{place.name}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            shutil.copyfile(path, temporary)
            temporary.replace(place)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(
                error.errno, f"{place} cannot be written ({error.strerror}); call merge again to complete it"
            ) from error


def _difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    if a["problem"] != b["problem"]:
        differ = a["about"].different(b["about"])
        return f"other {differ} ({a['problem'][:12]}, {b['problem'][:12]}{_exactly(differ)})"
    return ", ".join(f"{name} {a[name]} and {b[name]}" for name in a if name != "about" and a[name] != b[name])


def _ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as 1 to 3, 7."""
    runs: list[list[int]] = []
    for i in numbers:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs)
