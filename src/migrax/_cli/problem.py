"""The start of all commands: a file, read in its format, and a fit of it."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from .. import io
from .._fit.fit import fit
from .._fit.result import FitResult
from .._parameters.fix import fix
from .._parameters.names import names
from .._parameters.select import select
from ..io._node import load
from .options import JsonFile, refuse, refuse_unknown


class Problem(NamedTuple):
    """A likelihood, its parameters and data. `document`: what they were read from, and `write`: the function that
    writes fitted values into it."""

    nll: Any
    params: dict[str, Any]
    data: Any
    document: Mapping[str, Any]
    write: Callable[[FitResult, Mapping[str, Any]], dict[str, Any]]

    def fitted(self) -> FitResult:
        return fit(self.nll, self.params, self.data)

    def poi(self, name: str | None) -> str:
        """The given parameter of interest, or that of the file.

        **Raises:** `click.UsageError` without one, or if it is not one free parameter.
        """
        chosen = self.nll.poi if name is None else name
        if chosen is None:
            refuse(f"the file names no parameter of interest: give --poi, of {', '.join(self.names[:20])}")
        option = "the file's parameter of interest (--poi takes another)" if name is None else f"--poi {name}"
        matches = self.chosen([chosen], option)
        if len(matches) != 1:
            refuse(f"{option}: these are {len(matches)} parameters, name one: {', '.join(matches[:20])}")
        return matches[0]

    def chosen(self, wanted: Sequence[str], option: str) -> list[str]:
        """The names of the given free parameters. **Raises:** `click.UsageError` for unknown ones."""
        try:
            return [self.names[i] for i in select(self.params, list(wanted))]
        except ValueError as error:
            refuse(f"{option}: {error}")

    @property
    def names(self) -> tuple[str, ...]:
        return names(self.params)


def read(
    path: Path,
    patch: Path | None,
    signal: str | None,
    analysis: str | None,
    point: str | None,
    fixed: tuple[str, ...],
    mass: float | None = None,
) -> Problem:
    """Read a file; one that ends with .txt is a datacard.

    **Raises:** `click.ClickException` (exit code 1) for an invalid file, with the place and the reason;
    `click.UsageError` (exit code 2) for options that do not apply to it.
    """
    if path.suffix == ".txt":
        given = {"--patch": patch, "--signal": signal, "--analysis": analysis, "--point": point}
        return _datacard(path, mass, fixed, given)
    if mass is not None:
        refuse(f"--mass {mass:g}: is for datacards")
    try:
        document = load(path, "the file")
        if not isinstance(document, Mapping):
            raise ValueError(f"{path}: is no object, but a list")
        write: Callable[..., Any]
        if "channels" in document:
            if point is not None:
                refuse(f"--point {point}: a workspace of pyhf has no parameter points, documents of HS3 have")
            if patch is None:  # a patch may change them
                _check_name("--analysis", "measurement", analysis, _listed(document, "measurements"))
            if signal is not None and patch is None:
                refuse(f"--signal {signal}: names one of a set of patches, which --patch gives")
            content = io.from_pyhf(document, patch=_patch_argument(patch, signal), measurement=analysis)
            write = functools.partial(io.to_pyhf, measurement=analysis)
        else:
            for option, given in (("--patch", patch), ("--signal", signal)):
                if given is not None:
                    refuse(f"{option} {given}: {option} is for workspaces of pyhf")
            known = [*_listed(document, "analyses"), *_listed(document, "likelihoods")]
            _check_name("--analysis", "analysis or likelihood", analysis, list(dict.fromkeys(known)))
            _check_name("--point", "parameter point", point, _listed(document, "parameter_points"))
            content, write = io.from_hs3(document, analysis=analysis, point=point), io.to_hs3
        nll, params, data = content
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from None
    for entry in fixed:
        params = _with_fixed(params, entry)
    return Problem(nll, params, data, document, write)


def _datacard(path: Path, mass: float | None, fixed: tuple[str, ...], others: dict[str, Any]) -> Problem:
    for option, value in others.items():
        if value is not None:
            refuse(f"{option} {value}: {option} is not for datacards")
    try:
        nll, params, data = io.from_datacard(path, mass=mass)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from None
    for entry in fixed:
        params = _with_fixed(params, entry)
    return Problem(nll, params, data, {}, _not_written)


def _not_written(*_: Any) -> NoReturn:
    """**Raises:** `ValueError`: a card has no place for fitted values."""
    raise ValueError("fitted values are not written back into a datacard: --json and --npz write the result")


def _patch_argument(patch: Path | None, signal: str | None) -> str | tuple[str, str] | None:
    """The `patch` of `from_pyhf`: a file, or one patch of a set."""
    if patch is None:
        return None
    content = load(patch, "the patch")
    patches = content.get("patches") if isinstance(content, Mapping) else None
    if not isinstance(patches, list):
        if signal is not None:
            refuse(f"--signal {signal}: {patch} is one patch, and no set of them")
        return str(patch)
    known = _listed({"patches": [entry.get("metadata") for entry in patches if isinstance(entry, Mapping)]}, "patches")
    if signal is None:
        refuse(f"--patch {patch}: is a set of patches, name one by --signal, of {', '.join(map(repr, known[:20]))}")
    refuse_unknown(f"--signal {signal}", "patch", signal, known)
    return str(patch), signal


def _listed(document: Mapping[str, Any], key: str) -> list[str]:
    """The names of the entries of a list. Errors in it are reported where it is read."""
    entries = document.get(key)
    entries = entries if isinstance(entries, list) else []
    return [entry["name"] for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]


def _check_name(option: str, what: str, name: str | None, known: list[str]) -> None:
    if name is not None and known:
        refuse_unknown(f"{option} {name}", what, name, known)


def _with_fixed(params: dict[str, Any], given: str) -> dict[str, Any]:
    """The parameters with the one of `--fix NAME[=VALUE]` fixed."""
    name, equals, text = given.partition("=")
    value = None
    if equals:
        try:
            value = float(text)
        except ValueError:
            refuse(f"--fix {given}: {text!r} is no number")
        if not math.isfinite(value):
            refuse(f"--fix {given}: the value must be finite")
    try:
        return fix(params, name, value)
    except ValueError as error:
        refuse(f"--fix {given}: {error}")


def on_a_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and the options of all commands; the command is called with a `Problem`."""

    @functools.wraps(command)
    def run(
        file: Path,
        patch: Path | None,
        signal: str | None,
        analysis: str | None,
        point: str | None,
        fixed: tuple[str, ...],
        mass: float | None,
        **options: Any,
    ) -> Any:
        problem = read(file, patch, signal, analysis, point, fixed, mass)
        try:
            return command(problem, **options)
        except BrokenPipeError:  # the reader of the table has closed the pipe; click ends quietly
            raise
        except (ValueError, TypeError, ImportError, OSError) as error:
            raise click.ClickException(str(error)) from None

    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option("--fix", "fixed", multiple=True, metavar="NAME[=VALUE]", help="Fix a parameter; may be repeated."),
        click.option("--mass", type=float, help="What $MASS and MH are in a datacard (a file *.txt)."),
        click.option("--point", metavar="NAME", help="The parameter point to start at (HS3)."),
        click.option("--analysis", metavar="NAME", help="A measurement (pyhf), or an analysis or a likelihood (HS3)."),
        click.option("--patch", type=path, help="A JSON Patch to a workspace of pyhf, or a set of them."),
        click.option("--signal", metavar="NAME", help="The patch of a set of patches."),
        click.option("--json", "json_to", type=JsonFile(), help="Write the numbers there; - is the terminal."),
    ):
        run = option(run)
    return click.argument("file", type=path)(run)
