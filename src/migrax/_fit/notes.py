"""The lines below the table of a fit: constants, errors from scatter, kinks."""

import textwrap
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from .._display.records import constants_text
from .._parameters.names import constants

_WIDTH = 100


def constants_line(params: Any) -> str:
    """The line on numbers that do not float because they are no `Parameter`; empty if there are none."""
    items = constants(params).items()
    numbers = {k: x for k, x in items if eqx.is_inexact_array_like(x) and np.ndim(x) == 0 and not np.iscomplexobj(x)}
    return constants_text(numbers)


def scatter_line(ndof: Any, up: Any) -> str:
    """The line on the origin of the errors in a fit to points whose errors are unknown."""
    if int(np.asarray(ndof)) < 1:
        return "The errors of the points are unknown, and no degree of freedom is left to take them from scatter."
    scale = float(np.sqrt(2 * np.asarray(up)))
    return (
        f"Errors from the scatter: those of the points times sqrt(χ²/ndof) = {scale:.4g} "
        "(1 for points without errors). χ² says nothing about the fit."
    )


def kinks_line(names: tuple[str, ...], on_kink: ArrayLike) -> str:
    """The line on parameters that lie on a kink; empty if none does."""
    shown = [name for name, on in zip(names, np.asarray(on_kink), strict=True) if on]
    return f"On a kink (the slope jumps there; MINOS gives each side's error): {', '.join(shown)}" if shown else ""


def wrapped(line: str) -> list[str]:
    """A line of text wrapped to the width of a terminal."""
    return textwrap.wrap(line, _WIDTH, break_long_words=False)
