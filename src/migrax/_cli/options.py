"""Types and checks of options. All are checked before the work starts: an invalid one has exit code 2."""

import contextlib
import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np

from .._stores.shard import check_shard


def refuse(message: str) -> NoReturn:
    """**Raises:** `click.UsageError` (exit code 2)."""
    raise click.UsageError(message, click.get_current_context(silent=True))


def refuse_unknown(option: str, what: str, name: str, known: Sequence[str]) -> None:
    """**Raises:** `click.UsageError` for an unknown name, with similar ones."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
        refuse(f"{option}: there is no {what} {name!r}; {hint}there are: {shown}")


def checked(check: Callable[[Any], Any]) -> Callable[..., Any]:
    """A callback for an option whose values are checked by `check`, which raises for invalid ones."""

    def callback(context: click.Context, option: click.Parameter, value: Any) -> Any:
        try:
            check(value)
        except (ValueError, TypeError) as error:
            raise click.BadParameter(str(error), context, option) from None
        return value

    return callback


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """**Raises:** `click.UsageError` (exit code 2) for a `ValueError`."""
    try:
        yield
    except ValueError as error:
        refuse(str(error))


class Shard(click.ParamType):
    """`i/n`, the i-th of n parts."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        parts = value.split("/") if isinstance(value, str) else value
        try:
            return check_shard(tuple(map(int, parts)))
        except ValueError:
            self.fail(f"{value!r} is no i/n with i from 0 to n - 1, such as 3/100", param, ctx)


class Values(click.ParamType):
    """`low:high:number`, evenly spaced values, or a list of values separated by commas: an array."""

    name = "low:high:number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            if ":" not in value:
                return np.array([float(text) for text in value.split(",")])
            low, high, number = value.split(":")
            return np.linspace(float(low), float(high), int(number))
        except ValueError:
            self.fail(f"{value!r} is no low:high:number, such as 0.5:3:11, and no list, such as 0.5,1,2", param, ctx)


class OutFile(click.Path):
    """A file to be written, in a folder that exists: its path."""

    def __init__(self):
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        problem = _folder_problem(path)
        return path if problem is None else self.fail(problem, param, ctx)


class InFile(click.Path):
    """A file that is there: its path."""

    def __init__(self):
        super().__init__(exists=True, dir_okay=False, path_type=Path)


class PictureFile(OutFile):
    """The same, with an ending that matplotlib supports.

    **Raises:** `click.ClickException` without matplotlib.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        try:
            from matplotlib.backend_bases import FigureCanvasBase
        except ImportError:
            raise click.ClickException('pictures need matplotlib: pip install "migrax[plot]"') from None
        known = sorted(FigureCanvasBase.get_supported_filetypes())
        ending = path.suffix.removeprefix(".").lower()
        if ending not in known:
            problem = f"{path.suffix!r} is no kind of picture" if ending else f"{str(path)!r} has no ending"
            self.fail(f"{problem}; the endings are {', '.join(f'.{kind}' for kind in known)}", param, ctx)
        return path


class JsonFile(click.File):
    """A file for numbers, created when they are available, in a folder that exists; - is the terminal."""

    def __init__(self):
        super().__init__("w", lazy=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str | os.PathLike) and (name := os.fspath(value)) != "-":
            path = Path(name)
            problem = f"{name!r} is a folder" if path.is_dir() else _folder_problem(path)
            if problem is not None:
                self.fail(problem, param, ctx)
        return super().convert(value, param, ctx)


def _folder_problem(path: Path) -> str | None:
    """The reason why a file cannot be written to this path, or `None`."""
    if not path.parent.is_dir():
        return f"there is no folder {str(path.parent)!r} to write {path.name!r} into"
    return None if os.access(path.parent, os.W_OK) else f"nothing may be written into the folder {str(path.parent)!r}"
