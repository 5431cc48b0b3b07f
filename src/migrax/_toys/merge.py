"""`merge`: the stores of the shards of one study as one."""

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .batch_file import read_batch
from .open_store import ToyStore, files_of
from .store import MANIFEST, check_place, identity, make_store, read_manifest

_LISTED = 10  # complaints in an error


def merge(
    stores: Sequence[str | os.PathLike[str]], into: str | os.PathLike[str] | None = None, *, leave_out: bool = False
) -> ToyStore:
    """Joins the stores of the shards of one study of toys: bit for bit that of one run with the same batch size.

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
        with the merged store then fits.

    **Returns:** a `ToyStore` of all batches.

    **Raises:** `ValueError`, with the names of all of them, for stores that are missing, damaged, of other studies or
    versions, for batches that are missing, damaged, in a wrong place, or twice there with other numbers. `OSError` if
    `into` cannot be written.
    """
    folders = [Path(store) for store in ([stores] if isinstance(stores, str | os.PathLike) else stores)]
    if not folders:
        raise ValueError("merge takes the folders of stores, got none")
    target = None if into is None else Path(into)
    if target is not None and (target / MANIFEST).exists() and target not in folders:
        folders.insert(0, target)
    manifest, files, faults = _gathered(folders)
    missing = [i for i in range(-(-manifest["n"] // manifest["batch_size"])) if i not in files] if manifest else []
    if manifest is None or (not leave_out and (faults or missing)):
        faults += [f"the batches {_ranges(missing)} are in none of the stores"] if missing else []
        more = [f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
        remedy = "" if manifest is None else "\n(merge(..., leave_out=True) takes what is right)"
        raise ValueError("\n".join(["these stores cannot be merged:", *faults[:_LISTED], *more]) + remedy)
    if target is None:
        return ToyStore(None, manifest, files)
    _written(target, manifest, files)
    return ToyStore(target, manifest, files_of(target, manifest))


def _gathered(folders: list[Path]) -> tuple[dict[str, Any] | None, dict[int, Path], list[str]]:
    """The manifest of the study, the file of each of its batches, and what is at fault."""
    faults: list[str] = []
    manifests: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        try:
            manifests[folder] = read_manifest(folder / MANIFEST)
        except OSError:
            faults.append(f"{folder} is no store of mx.fit_toys: there is no {MANIFEST}")
        except ValueError as error:
            faults.append(str(error))
    if not manifests:
        return None, {}, faults
    first, manifest = next(iter(manifests.items()))
    files: dict[int, Path] = {}
    checksums: dict[int, str] = {}
    differ: set[int] = set()
    for folder, other in manifests.items():
        if other != manifest:
            faults.append(f"{folder} is of another study than {first}: {_difference(manifest, other)}")
            continue
        for i, path in files_of(folder, manifest).items():
            try:
                batch = read_batch(path)
                check_place(path, batch.record, identity(manifest, i))
            except ValueError as error:
                faults.append(str(error))
                continue
            if checksums.setdefault(i, batch.checksum) != batch.checksum:
                faults.append(f"{path} and {files[i]} hold the same toys with other numbers")
                differ.add(i)
            files.setdefault(i, path)
    return manifest, {i: path for i, path in files.items() if i not in differ}, faults


def _written(target: Path, manifest: dict[str, Any], files: dict[int, Path]) -> None:
    if target.exists() and not (target / MANIFEST).exists() and any(target.iterdir()):
        raise ValueError(f"{target} is no store of mx.fit_toys: there is no {MANIFEST}, but something else")
    if not (target / MANIFEST).exists():
        make_store(target, manifest)
    for i, path in files.items():
        place = target / f"batch-{i:06d}.npz"
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
        return (
            f"likelihood, parameters, key, covariance or options differ ({a['problem'][:12]}, {b['problem'][:12]}; the "
            "covariance must be the same to the last bit: save the fit once, and load it in each job)"
        )
    return ", ".join(f"{name} {a[name]} and {b[name]}" for name in a if a[name] != b[name])


def _ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as 1 to 3, 7."""
    runs: list[list[int]] = []
    for i in numbers:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs)
