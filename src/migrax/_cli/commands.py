"""The commands: `fit`, `minos`, `limit`, `toys`, `impacts`."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np

from .. import plot
from .._fit.result import FitResult
from .._hypotest import LimitStatus, UpperLimit, hypotest, upper_limit
from .._hypotest.cells import words
from .._hypotest.toy_limit import check_toys
from .._profile.impacts import Impacts, impacts as impacts_of
from .._profile.levels import probability, rise
from .._profile.minos import minos as minos_of
from .._studies import PullStudy, pull_study
from .._toys.fit_toys import fit_toys
from .._toys.source import Toys
from .options import OutFile, PictureFile, checked, refuse
from .output import ended, of_fit, picture, plain, told
from .problem import Problem, on_a_file

_SAVED = (
    "Write the file with the fitted values there: as the starts of a workspace of pyhf; in a document of HS3 as the "
    'parameter point "fitted", which --point fitted reads.'
)

_PULLS = 36  # parameters whose pulls are drawn


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
@click.option("--save", type=OutFile(), help=_SAVED)
def fit(problem: Problem, json_to: Any, save: Path | None) -> None:
    """Find the minimum, with exact errors."""
    result = problem.fitted()
    told(result, of_fit(result), json_to)
    if save is not None:
        save.write_text(json.dumps(plain(problem.write(result, problem.document)), indent=2))
    ended(bool(result.valid))


def _minimum(problem: Problem, json_to: Any) -> FitResult:
    """The fit that all else rests on; the program ends where it is not valid."""
    result = problem.fitted()
    if not bool(result.valid):
        told(result, of_fit(result), json_to)
        ended(valid=False)
    return result


@main.command()
@on_a_file
@click.argument("names", nargs=-1)
@click.option(
    "--cl",
    default=0.6827,
    show_default=True,
    callback=checked(rise),
    help="Confidence level; from 1 on, standard deviations.",
)
def minos(problem: Problem, names: tuple[str, ...], json_to: Any, cl: float) -> None:
    """Find asymmetric errors of NAMES, or of all parameters."""
    wanted = problem.chosen(names, " ".join(["NAMES", *names])) if names else None
    found = minos_of(problem.nll, _minimum(problem, json_to), problem.data, wanted, cl=cl)
    columns = zip(found.names, found.lower, found.upper, found.valid, strict=True)
    each = {name: {"lower": low, "upper": up, "valid": bool(good)} for name, low, up, good in columns}
    told(f"{found.result}\n{_level(cl)}", of_fit(found.result) | {"cl": cl, "minos": each}, json_to)
    ended(bool(np.all(found.valid)))


def _level(cl: float) -> str:
    """Of which level the errors of MINOS are, both ways to say it."""
    deviations = float(rise(cl)) ** 0.5
    percent = 100 * (cl if cl < 1 else math.erf(deviations / 2**0.5))
    plural = "" if deviations == 1 else "s"
    return f"MINOS errors: at a confidence level of {percent:.6g} %, {deviations:.4g} standard deviation{plural}"


@main.command()
@on_a_file
@click.option("--poi", help="The parameter of interest; default: the file's.")
@click.option("--cl", default=0.95, show_default=True, callback=checked(probability), help="Confidence level.")
@click.option("--cls/--no-cls", default=True, help="CLs, or the p-value of the signal alone.")
@click.option(
    "--toys", type=click.IntRange(min=1), help="By that many toys of each hypothesis, not by asymptotic formulas."
)
@click.option("--seed", default=0, show_default=True, help="Of the toys.")
@click.option("--plot", "plot_to", type=PictureFile(), help="Draw CLs against the parameter there.")
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
    calculator = None
    if toys is not None:
        calculator = Toys(toys, jax.random.key(seed), progress=True)
        try:
            check_toys((), calculator, 1 - cl, "limit")
        except ValueError as error:
            refuse(f"--toys {toys}: {error}")
    found = upper_limit(problem.nll, problem.params, problem.data, name, cl=cl, cls=cls, calculator=calculator)
    status, expected_status = LimitStatus(int(found.status)), [LimitStatus(int(s)) for s in found.expected_status]
    every = {status, *expected_status}
    answered = every <= {LimitStatus.FOUND, LimitStatus.NONE_ALLOWED}
    numbers = {
        "poi": name,
        "cl": cl,
        "cls": cls,
        "observed": found.observed,
        "expected": found.expected,
        "error": found.error,
        "expected_error": found.expected_error,
        "status": words(status),
        "expected_status": [words(s) for s in expected_status],
        "fitted": found.best,
        "valid": answered,
    }
    if found.scales is not None:
        numbers["scales"] = {name: float(scale) for name, scale in found.scales.items()}
    none = f"\nNone allowed: {name} is excluded without a signal already" * (LimitStatus.NONE_ALLOWED in every)
    told(f"{found}{none}", numbers, json_to)
    if plot_to is not None:
        _scanned(problem, found, plot_to)
    ended(answered)


def _scanned(problem: Problem, found: UpperLimit, plot_to: Path) -> None:
    """Draws CLs up to somewhat above the limits."""
    ends = np.append(np.asarray(found.expected), np.asarray(found.observed))
    if not np.any(np.isfinite(ends)):
        click.echo("No picture: there is no limit to draw CLs up to.", err=True)
        return
    values = jnp.linspace(0.0, 1.2 * float(np.nanmax(ends)), 41)
    upper = found.free.upper[found.free.names.index(found.name)]
    one = lambda mu: hypotest(problem.nll, problem.params, problem.data, found.name, mu)  # noqa: E731
    tests = jax.jit(lambda v: jax.lax.map(one, v))(values[values <= upper])
    picture(plot_to, lambda ax: plot.cls_scan(tests, ax, cl=found.cl))


@main.command()
@on_a_file
@click.option("-n", "--number", type=click.IntRange(min=1), default=1000, show_default=True, help="How many toys.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same toys.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Keep finished batches in this folder.")
@click.option("--plot", "plot_to", type=PictureFile(), help="Draw the pulls there.")
def toys(problem: Problem, json_to: Any, number: int, seed: int, store: Path | None, plot_to: Path | None) -> None:
    """Fit toys of the fitted model, and look at their pulls."""
    result = _minimum(problem, json_to)
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
    good = study.total - study.failed
    fields = ("mean", "mean_error", "width", "width_error", "count")
    each = {
        name: {field: getattr(study, field)[i] for field in fields} | {"left_out": good - study.count[i]}
        for i, name in enumerate(study.names)
    }
    numbers = {"toys": number, "valid": good, "pulls": each, "names": list(fits.names), "values": fits.values}
    told(f"{study}{_left_out(study, good)}", numbers, json_to)
    if plot_to is not None:
        if len(study.names) > _PULLS:
            click.echo(f"The picture shows the first {_PULLS} of {len(study.names)} parameters.", err=True)
        picture(plot_to, lambda ax: _draw_pulls(study, ax))
    ended(good > 0)


def _draw_pulls(study: PullStudy, ax: Any) -> None:
    """A histogram for each parameter, in the place of one."""
    names = study.names[:_PULLS]
    columns = math.ceil(math.sqrt(len(names)))
    rows = math.ceil(len(names) / columns)
    figure = ax.figure
    ax.remove()
    figure.set_size_inches(4.8 * columns, 3.6 * rows)
    each = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, place in zip(names, each, strict=False):
        plot.pulls(study, name, place)
    for place in each[len(names) :]:
        place.remove()


def _left_out(study: PullStudy, good: int) -> str:
    """How many toys whose fit is valid have no pull."""
    without = [f"{name} {good - count}" for name, count in zip(study.names, study.count, strict=True) if count < good]
    if not without:
        return ""
    return f"\nLeft out of the pulls, as there is no error at a limit: {', '.join(without)} (of {good} valid toys)"


@main.command()
@on_a_file
@click.option("--poi", help="The parameter of interest; default: the file's.")
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many of the largest are shown."
)
@click.option("--plot", "plot_to", type=PictureFile(), help="Draw pulls and impacts there.")
def impacts(problem: Problem, json_to: Any, poi: str | None, top: int, plot_to: Path | None) -> None:
    """Rank nuisance parameters by their impact."""
    name = problem.poi(poi)
    found = impacts_of(problem.nll, _minimum(problem, json_to), problem.data, name)
    sizes = np.fmax(np.abs(np.asarray(found.postfit_up)), np.abs(np.asarray(found.postfit_down)))
    order = np.argsort(-np.nan_to_num(sizes))
    fields = ("postfit_down", "postfit_up", "prefit_down", "prefit_up", "linear", "pulls", "constraints")
    each = {found.names[i]: {field: getattr(found, field)[i] for field in fields} for i in order}
    largest = order[:top]
    shown = jax.tree.map(lambda a: a[largest], found)
    shown = dataclasses.replace(shown, names=tuple(found.names[i] for i in largest))
    told(shown, {"poi": name, "impacts": each}, json_to)
    if plot_to is not None:
        picture(plot_to, lambda ax: _draw_impacts(shown, ax))
    ended(bool(np.all(found.valid)))


def _draw_impacts(shown: Impacts, ax: Any) -> None:
    """Pulls and impacts, in the place of one picture."""
    figure = ax.figure
    ax.remove()
    figure.set_size_inches(8.0, max(2.6, 1.4 + 0.3 * len(shown.names)))
    plot.impacts(shown, figure.subplots(1, 2, sharey=True, width_ratios=(2, 3)), top=len(shown.names))
