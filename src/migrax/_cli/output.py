"""The output of commands: tables on the terminal, numbers as JSON, pictures, an exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from .._fit.result import FitResult
from .._parameters.parameter import Parameter

NOT_VALID = 3  # exit code: completed, but the result is not valid


def told(table: Any, numbers: dict[str, Any], json_to: Any) -> None:
    """Print the table, unless the numbers go to the terminal, and write the numbers."""
    if json_to is None or json_to.name != "-":
        click.echo(table)
    if json_to is not None:
        json.dump(plain(numbers), json_to, indent=2, allow_nan=False)
        json_to.write("\n")


def ended(valid: bool) -> None:
    """End the program unless the result is valid."""
    if not valid:
        click.echo("Not valid: see the status.", err=True)
        raise SystemExit(NOT_VALID)


def of_fit(result: FitResult) -> dict[str, Any]:
    """The numbers of a fit, including the values of fixed parameters."""
    parameters = {
        name: {"value": value, "error": error}
        for name, value, error in zip(result.names, result.values, result.errors, strict=True)
    }
    matrix = None if result.covariance is None else result.covariance.matrix
    return {
        "valid": bool(result.valid),
        "message": result.message,
        "nll": result.nll,
        "edm": result.edm,
        "parameters": parameters,
        "fixed": _fixed(result),
        "covariance": {"names": list(result.names), "matrix": matrix},
    }


def _fixed(result: FitResult) -> dict[str, float]:
    params: Any = result.params
    values_by_name = {}
    for name, p in params.items():
        if isinstance(p, Parameter):
            values, fixed = np.asarray(p.value), np.broadcast_to(np.asarray(p.fixed), np.shape(p.value))
            for index in np.ndindex(*values.shape):
                if fixed[index]:
                    values_by_name[name + (f"[{','.join(map(str, index))}]" if index else "")] = float(values[index])
    return values_by_name


def plain(x: Any) -> Any:
    """Convert to what JSON can hold, with NaN and infinity as null."""
    if isinstance(x, dict):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    if x is None or isinstance(x, str | bool | int):
        return x
    array = np.asarray(x)
    if array.ndim:
        return [plain(value) for value in array]
    value = array.item()
    return value if not isinstance(value, float) or np.isfinite(value) else None


def picture(path: Path, draw: Callable[[Any], Any]) -> None:
    """Draw into a file, in the format of its ending: a `PictureFile`."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    draw(figure.subplots())
    figure.savefig(path, dpi=150)
    click.echo(f"Picture: {path}", err=True)
