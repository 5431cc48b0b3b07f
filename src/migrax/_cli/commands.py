"""The commands: `fit`, `minos`, `limit`, `toys`, `impacts`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np

from .. import plot
from .._hypotest import hypotest, upper_limit
from .._impacts import impacts as impacts_of
from .._minos import minos as minos_of
from .._studies import pull_study
from .._toy_source import Toys
from .._toys import fit_toys
from .output import of_fit, picture, plain, told
from .problem import Problem, on_a_file

_PNG = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.group(epilog="Exit codes: 0; 1: a file that is not right; 2: wrong usage; 3: what was found is not valid.")
@click.version_option(package_name="migrax")
def main() -> None:
    """Maximum-likelihood fits of pyhf workspaces and HS3 documents.

    Tables go to the terminal; --json writes the numbers. In float64.
    """
    # a program, not the library: it may choose
    jax.config.update("jax_enable_x64", True)


@main.command()
@on_a_file
@click.option("--save", type=_PNG, help="Write the file with the fitted values as starts there.")
def fit(problem: Problem, json_to: Any, save: Path | None) -> None:
    """Find the minimum, with exact errors."""
    result = problem.fitted()
    if save is not None:
        save.write_text(json.dumps(plain(problem.write(result, problem.document)), indent=2))
    told(result, of_fit(result), json_to, bool(result.valid))


@main.command()
@on_a_file
@click.argument("names", nargs=-1)
@click.option("--cl", default=0.6827, show_default=True, help="Confidence level; from 1 on, standard deviations.")
def minos(problem: Problem, names: tuple[str, ...], json_to: Any, cl: float) -> None:
    """Find asymmetric errors of NAMES, or of all parameters."""
    result = problem.fitted()
    if not bool(result.valid):
        told(result, of_fit(result), json_to, valid=False)
    found = minos_of(problem.nll, result, problem.data, list(names) or None, cl=cl)
    columns = zip(found.names, found.lower, found.upper, found.valid, strict=True)
    each = {name: {"lower": low, "upper": up, "valid": bool(good)} for name, low, up, good in columns}
    told(found.result, of_fit(found.result) | {"cl": cl, "minos": each}, json_to, bool(np.all(found.valid)))


@main.command()
@on_a_file
@click.option("--poi", help="The parameter of interest; default: the file's.")
@click.option("--cl", default=0.95, show_default=True, help="Confidence level.")
@click.option("--cls/--no-cls", default=True, help="CLs, or the p-value of the signal alone.")
@click.option("--toys", type=int, help="By that many toys of each hypothesis, not by asymptotic formulas.")
@click.option("--seed", default=0, show_default=True, help="Of the toys.")
@click.option("--plot", "plot_to", type=_PNG, help="Draw CLs against the parameter there.")
def limit(
    problem: Problem,
    json_to: Any,
    poi: str | None,
    cl: float,
    cls: bool,
    toys: int | None,
    seed: int,
    plot_to: Path | None,
) -> None:
    """Find the upper limit on the signal, observed and expected."""
    name = problem.poi(poi)
    calculator = None if toys is None else Toys(toys, jax.random.key(seed), progress=True)
    found = upper_limit(problem.nll, problem.params, problem.data, name, cl=cl, cls=cls, calculator=calculator)
    ends = np.append(np.asarray(found.expected), np.asarray(found.observed))
    if plot_to is not None and np.any(np.isfinite(ends)):
        values = jnp.linspace(0.0, 1.2 * float(np.nanmax(ends)), 41)
        upper = float(problem.params[name].upper) if problem.params[name].upper is not None else np.inf
        one = lambda mu: hypotest(problem.nll, problem.params, problem.data, name, mu)  # noqa: E731
        tests = jax.jit(lambda v: jax.lax.map(one, v))(values[values <= upper])
        picture(plot_to, lambda ax: plot.cls_scan(tests, ax, cl=cl))
    numbers = {
        "poi": name,
        "cl": cl,
        "cls": cls,
        "observed": found.observed,
        "expected": found.expected,
        "error": found.error,
        "expected_error": found.expected_error,
        "fitted": found.best,
        "valid": bool(found.valid),
    }
    told(found, numbers, json_to, bool(found.valid))


@main.command()
@on_a_file
@click.option("-n", "--number", default=1000, show_default=True, help="How many toys.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same toys.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Keep finished batches in this folder.")
def toys(problem: Problem, json_to: Any, number: int, seed: int, store: Path | None) -> None:
    """Fit toys of the fitted model, and look at their pulls."""
    result = problem.fitted()
    if not bool(result.valid):
        told(result, of_fit(result), json_to, valid=False)
    drawn = Toys(number, jax.random.key(seed))
    fits = fit_toys(
        problem.nll,
        result.params,
        drawn,
        data=problem.data,
        covariance=result.covariance,
        progress=True,
        store=store,
    )
    study = pull_study(fits, result.params)
    columns = zip(study.names, study.mean, study.width, strict=True)
    each = {name: {"mean": mean, "width": width} for name, mean, width in columns}
    good = int(np.sum(fits.valid))
    numbers = {"toys": number, "valid": good, "pulls": each, "names": list(fits.names), "values": fits.values}
    told(study, numbers, json_to, good > 0)


@main.command()
@on_a_file
@click.option("--poi", help="The parameter of interest; default: the file's.")
@click.option("--top", default=20, show_default=True, help="How many of the largest the table shows.")
def impacts(problem: Problem, json_to: Any, poi: str | None, top: int) -> None:
    """Rank nuisance parameters by their impact."""
    name = problem.poi(poi)
    result = problem.fitted()
    if not bool(result.valid):
        told(result, of_fit(result), json_to, valid=False)
    found = impacts_of(problem.nll, result, problem.data, name)
    sizes = np.fmax(np.abs(np.asarray(found.postfit_up)), np.abs(np.asarray(found.postfit_down)))
    order = np.argsort(-np.nan_to_num(sizes))
    fields = ("postfit_down", "postfit_up", "prefit_down", "prefit_up", "pulls", "constraints")
    each = {found.names[i]: {field: getattr(found, field)[i] for field in fields} for i in order}
    largest = order[:top]
    shown = jax.tree.map(lambda a: a[largest], found)
    shown = dataclasses.replace(shown, names=tuple(found.names[i] for i in largest))
    told(shown, {"poi": name, "impacts": each}, json_to, bool(np.all(found.valid)))
