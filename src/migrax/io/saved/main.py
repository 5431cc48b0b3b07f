"""`save` and `load`: a result as one file, an npz whose entry `migrax` is a JSON header."""

import difflib
import importlib.metadata
import json
import os
import secrets
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from ..._util.result import AbstractResult, refuse_traced
from ..._util.typing import PyTree
from .classes import RESULTS
from .fill import Filling
from .read import Reader
from .write import Writer

# Of the tree and its nodes. A file of a larger one is refused; one of a smaller one must still be read.
_FORMAT = 1
_HEADER = "migrax"
_MANIFEST = "manifest.json"  # of a store of toys (`_stores/store.py`)
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def save(path: str | os.PathLike[str], result: AbstractResult) -> None:
    """Writes a result to a file, from which `mx.load` restores it, equal to the last bit.

    ```python
    mx.save("fit.npz", result)
    ```

    All results of migrax can be saved: fits (one or many), covariances, MINOS errors, profiles, contours, impacts,
    goodness of fit, tests, limits, intervals, studies. The likelihood and the data are not saved.

    The file is an npz archive (`numpy.load` reads its arrays), whose entry `migrax` is a JSON text that says where the
    arrays belong. Nothing in it is pickled. The file is first written under a temporary name in the same folder, and an
    existing file is replaced only when the new one is complete.

    **Arguments:**

    - `path`: exactly this file is written, whatever its extension.
    - `result`: the result. In its tree of parameters, dictionaries, lists, tuples, numbers, strings and `mx.Parameter`
        are written as they are. Your own classes and functions (`eqx.Module`, dataclasses) are written by their name
        and that of their module, which must be imported when the file is read. What cannot be found by a name, such as
        a `lambda`, is left out: `mx.load` then needs `params`.

    **Raises:** `TypeError` for an object that is not a result, and inside `jax.jit`; `OSError` if the file cannot be
    written.
    """
    target = _path(path, "save")
    if not isinstance(result, AbstractResult):
        what = (
            "save takes a path and a result, in this order"
            if isinstance(path, AbstractResult)
            else "save takes a result"
        )
        raise TypeError(f"{what}; got {type(result).__name__}")
    refuse_traced(result, "save")
    kind = type(result)
    if RESULTS.get(kind.__name__) is not kind:
        raise TypeError(f"save knows no {kind.__name__} of {kind.__module__}; it knows {', '.join(RESULTS)}")
    writer = Writer()
    node = writer.result(result)
    told = {"migrax": importlib.metadata.version("migrax"), "jax": jax.__version__, "numpy": np.__version__}
    header = {"format": _FORMAT, "kind": kind.__name__, "written_by": told, "result": node}
    text = json.dumps(header, allow_nan=False)
    _replace(target, {_HEADER: np.array(text), **writer.arrays})


def load(path: str | os.PathLike[str], *, params: PyTree = None) -> Any:
    """Reads a result that `mx.save` wrote.

    It can be used as before: for a fit that starts from `result.params`, for `mx.minos(nll, result, data)`, and so on.

    ```python
    result = mx.load("fit.npz")
    ```

    Nothing that the file names is imported or run: classes and functions in a tree of parameters are looked up in the
    modules that are already imported. Arrays of JAX are placed on the default device.

    **Arguments:**

    - `path`: the file.
    - `params`: a tree of parameters, such as the start of the fit, which is filled with the numbers of the file. It is
        needed if the tree in the file contains something that was not written or cannot be found. Its names and shapes
        are checked.

    **Returns:** the result.

    **Raises:** `FileNotFoundError`, `IsADirectoryError`; `ValueError`, with the name of the file, if `mx.save` did not
    write it, if a newer version wrote it, if it is damaged, if its tree contains something that cannot be found, or if
    `params` do not fit.
    """
    source = _path(path, "load")
    filling = None if params is None else Filling(params)
    arrays = _arrays_of(source)
    header = _header_of(source, arrays)
    reader = Reader(arrays, filling)
    try:
        result = reader.node(header["result"], header["kind"])
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{source} is damaged: its header makes no sense ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise ValueError(f"{source} cannot be read: {error}") from error
    if type(result) is not RESULTS[header["kind"]]:
        raise ValueError(f"{source} is damaged: it holds a {type(result).__name__} that is called {header['kind']}")
    if filling is not None and reader.trees == 0:
        raise ValueError(f"{source} holds a {header['kind']}, which has no tree of parameters: leave params out")
    return result


def _path(path: Any, what: str) -> Path:
    """**Raises:** `TypeError`, and `IsADirectoryError` for a directory."""
    if not isinstance(path, str | os.PathLike):
        order = "a path and a result, in this order" if what == "save" else "a path"
        raise TypeError(f"{what} takes {order}; got {type(path).__name__}")
    found = Path(os.fsdecode(path))
    store = found if found.is_dir() else found.parent
    is_of_store = found == store or found.name == _MANIFEST or found.name.startswith("batch-")
    if what == "load" and is_of_store and (store / _MANIFEST).exists():
        error = IsADirectoryError if found.is_dir() else ValueError
        raise error(f"{store} is a store of toys: mx.fit_toys(nll, params, toys, store=...) returns its fits")
    if found.is_dir():
        raise IsADirectoryError(f"{found} is a directory; {what} takes the path of a file")
    return found


def _replace(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Under its name only when all of it is on the disk."""
    place = Path(os.path.realpath(path))  # a link stays one
    beside = place.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as file:
            _write(file, arrays)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror})") from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _write(file: BinaryIO, arrays: dict[str, np.ndarray]) -> None:
    """As `numpy.savez` does, but never pickled (which NumPy 2.0 cannot be told), and without the time of day."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_DEFLATED if name == _HEADER else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def _arrays_of(path: Path) -> dict[str, np.ndarray]:
    """**Raises:** `FileNotFoundError`; `ValueError` for a file that is no npz, or is damaged."""
    with path.open("rb") as file:
        begin = file.read(4)
        if not begin.startswith(b"PK"):
            what = "it is empty" if not begin else "it is no npz"
            raise ValueError(f"{path} was not written by mx.save: {what}")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept}
        except _DAMAGED as error:
            raise ValueError(f"{path} is damaged, or was not written to its end: {error}") from error


def _header_of(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """**Raises:** `ValueError` for one that is not there, is damaged, or is of a newer version."""
    if _HEADER not in arrays:
        raise ValueError(f"{path} was not written by mx.save: it has no entry {_HEADER!r}")
    try:
        header = json.loads(str(arrays[_HEADER]))
        written = header["format"]
        if type(written) is not int or written < 1:
            raise ValueError(f"there is no format {written!r}")
        told = header.get("written_by", {}).get("migrax")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its header cannot be read ({type(error).__name__}: {error})") from error
    if written > _FORMAT:
        raise ValueError(
            f"{path} is of format {written}, and this version of migrax reads up to {_FORMAT}: a newer one wrote it "
            f"({told}). Update migrax"
        )
    kind = header.get("kind")
    if not isinstance(kind, str) or kind not in RESULTS:
        near = difflib.get_close_matches(str(kind), RESULTS, n=1)
        hint = f" (there is {near[0]!r})" if near else ""
        raise ValueError(f"{path} holds a {kind!r}, which this version of migrax does not know{hint}")
    return header
