"""What all commands begin with: a file, read as what it is, and a fit of it."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from .. import io
from .._fit import fit
from .._fix import fix
from .._parameter import names
from .._result import FitResult
from ..io._node import load


class Problem(NamedTuple):
    """A likelihood, its parameters and data. `document`: what they were read from, and `write`: how fitted values are
    written into it."""

    nll: Any
    params: dict[str, Any]
    data: Any
    document: Mapping[str, Any]
    write: Callable[[FitResult, Mapping[str, Any]], dict[str, Any]]

    def fitted(self) -> FitResult:
        return fit(self.nll, self.params, self.data)

    def poi(self, name: str | None) -> str:
        """The parameter of interest that was asked for, or that of the file.

        **Raises:** `click.UsageError` without one.
        """
        name = self.nll.poi if name is None else name
        if name is None:
            raise click.UsageError(
                f"the file names no parameter of interest: give --poi, of {', '.join(self.names[:20])}"
            )
        return name

    @property
    def names(self) -> tuple[str, ...]:
        return names(self.params)


def read(path: Path, patch: Path | None, analysis: str | None, fixed: tuple[str, ...]) -> Problem:
    """**Raises:** `click.ClickException` (exit code 1) for a file that is not right, with the place and the reason."""
    try:
        document = load(path, "the file")
        if not isinstance(document, Mapping):
            raise ValueError(f"{path}: is no object, but a list")
        if "channels" in document:
            found = io.from_pyhf(document, patch=None if patch is None else str(patch), measurement=analysis)
            write = functools.partial(io.to_pyhf, measurement=analysis)
        elif patch is not None:
            raise ValueError("--patch is for workspaces of pyhf")
        else:
            found, write = io.from_hs3(document, analysis=analysis), io.to_hs3
        nll, params, data = found
        for one in fixed:
            name, _, value = one.partition("=")
            params = fix(params, name, float(value) if value else None)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from None
    return Problem(nll, params, data, document, write)


def on_a_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """The argument and the options that all commands have; the command is called with a `Problem`."""

    @functools.wraps(command)
    def run(file: Path, patch: Path | None, analysis: str | None, fixed: tuple[str, ...], **options: Any) -> Any:
        problem = read(file, patch, analysis, fixed)
        try:
            return command(problem, **options)
        except (ValueError, TypeError, ImportError) as error:
            raise click.ClickException(str(error)) from None

    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option("--fix", "fixed", multiple=True, metavar="NAME[=VALUE]", help="Fix a parameter; may be repeated."),
        click.option("--analysis", metavar="NAME", help="A measurement (pyhf), or an analysis or a likelihood (HS3)."),
        click.option("--patch", type=path, help="A JSON Patch to a workspace of pyhf, such as a signal."),
        click.option(
            "--json", "json_to", type=click.File("w", lazy=True), help="Write the numbers there; - is the terminal."
        ),
    ):
        run = option(run)
    return click.argument("file", type=path)(run)
