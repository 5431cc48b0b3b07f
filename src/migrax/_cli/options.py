"""What options may be. All is checked before the work starts: a wrong one ends the program with exit code 2."""

import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click


def refuse(message: str) -> NoReturn:
    """**Raises:** `click.UsageError` (exit code 2)."""
    raise click.UsageError(message, click.get_current_context(silent=True))


def refuse_unknown(said: str, what: str, name: str, known: Sequence[str]) -> None:
    """**Raises:** `click.UsageError` for a name that is not there, with the near ones."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
        refuse(f"{said}: there is no {what} {name!r}; {hint}there are: {shown}")


def checked(check: Callable[[Any], Any]) -> Callable[..., Any]:
    """A callback for an option whose values `check` looks at, which raises for those that cannot be."""

    def callback(context: click.Context, option: click.Parameter, value: Any) -> Any:
        try:
            check(value)
        except (ValueError, TypeError) as error:
            raise click.BadParameter(str(error), context, option) from None
        return value

    return callback


class OutFile(click.Path):
    """A file to be written, in a folder that exists: its path."""

    def __init__(self):
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        problem = _of_folder(path)
        return path if problem is None else self.fail(problem, param, ctx)


class PictureFile(OutFile):
    """The same, with an ending that matplotlib knows.

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
            said = f"{path.suffix!r} is no kind of picture" if ending else f"{str(path)!r} has no ending"
            self.fail(f"{said}; the endings are {', '.join(f'.{kind}' for kind in known)}", param, ctx)
        return path


class JsonFile(click.File):
    """A file for numbers, made when they are there, in a folder that exists; - is the terminal."""

    def __init__(self):
        super().__init__("w", lazy=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str | os.PathLike) and (name := os.fspath(value)) != "-":
            path = Path(name)
            problem = f"{name!r} is a folder" if path.is_dir() else _of_folder(path)
            if problem is not None:
                self.fail(problem, param, ctx)
        return super().convert(value, param, ctx)


def _of_folder(path: Path) -> str | None:
    """What is wrong with where a file shall lie."""
    if not path.parent.is_dir():
        return f"there is no folder {str(path.parent)!r} to write {path.name!r} into"
    return None if os.access(path.parent, os.W_OK) else f"nothing may be written into the folder {str(path.parent)!r}"
