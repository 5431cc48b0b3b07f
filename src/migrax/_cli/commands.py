"""The commands `fit`, `minos`, `toys`, `merge`, `impacts`."""

import dataclasses
import json
import math
import warnings
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np

from .. import plot
from .._fit.result import FitResult
from .._fit.status import Status
from .._profile.impacts import Impacts, impacts as impacts_of
from .._profile.levels import rise
from .._profile.minos import minos as minos_of
from .._stores.merge import merge as merge_stores
from .._stores.open_store import StatisticStore, StudyStore
from .._stores.shard import batches_of
from .._stores.store import size_of_batches
from .._studies import PullStudy, pull_study
from .._toys.fit_toys import batches_in, fit_toys
from .._toys.source import Toys
from ..io.saved import load as load_result, save as save_result
from .group import main
from .options import InFile, JsonFile, OutFile, PictureFile, Shard, checked, refuse, refused
from .output import ended, of_fit, picture, plain, told
from .problem import Problem, on_a_file

_SAVED = (
    "Write the file with the fitted values there: as the starts of a workspace of pyhf; in a document of HS3 as the "
    'parameter point "fitted", which --point fitted reads.'
)

_PULLS = 36  # parameters whose pulls are drawn


@main.command()
@on_a_file
@click.option("--save", type=OutFile(), help=_SAVED)
@click.option("--npz", type=OutFile(), help="Keep the result there, for toys --fit and mx.load.")
def fit(problem: Problem, json_to: Any, save: Path | None, npz: Path | None) -> None:
    """Find the minimum, with exact errors."""
    result = problem.fitted()
    told(result, of_fit(result), json_to)
    if npz is not None:
        save_result(npz, result)
    if save is not None:
        save.write_text(json.dumps(plain(problem.write(result, problem.document)), indent=2))
    ended(bool(result.valid))


def _minimum(problem: Problem, json_to: Any, npz: Path | None = None) -> FitResult:
    """The fit that the other commands start from, or the one that is given; the program ends if it is not valid."""
    result = problem.fitted() if npz is None else _kept_fit(problem, npz)
    if not bool(result.valid):
        told(result, of_fit(result), json_to)
        ended(valid=False)
    return result


def _kept_fit(problem: Problem, npz: Path) -> FitResult:
    """**Raises:** `click.UsageError` for a file that holds no fit of this problem."""
    with refused():
        result = load_result(npz, params=problem.params)
    if not isinstance(result, FitResult) or result.names != problem.names:
        refuse(f"--fit {npz}: this is no fit of the {len(problem.names)} parameters of the file")
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
    errors = minos_of(problem.nll, _minimum(problem, json_to), problem.data, wanted, cl=cl)
    columns = zip(errors.names, errors.lower, errors.upper, errors.valid, strict=True)
    by_name = {name: {"lower": low, "upper": up, "valid": bool(is_valid)} for name, low, up, is_valid in columns}
    told(f"{errors.result}\n{_level(cl)}", of_fit(errors.result) | {"cl": cl, "minos": by_name}, json_to)
    ended(bool(np.all(errors.valid)))


def _level(cl: float) -> str:
    """The level of the errors of MINOS, as a confidence level and in standard deviations."""
    deviations = float(rise(cl)) ** 0.5
    percent = 100 * (cl if cl < 1 else math.erf(deviations / 2**0.5))
    plural = "" if deviations == 1 else "s"
    return f"MINOS errors: at a confidence level of {percent:.6g} %, {deviations:.4g} standard deviation{plural}"


@main.command()
@on_a_file
@click.option("-n", "--number", type=click.IntRange(min=1), default=1000, show_default=True, help="How many toys.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same toys.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Keep finished batches in this folder.")
@click.option("--batch-size", type=click.IntRange(min=1), help="How many toys a batch has.")
@click.option("--fit", "npz", type=InFile(), help="Start from this result of fit --npz: the jobs of a study share one.")
@click.option(
    "--shard", type=Shard(), help="Fit the i-th of n parts, i from 0 to n - 1. For merge, with a --store each."
)
@click.option("--plot", "plot_to", type=PictureFile(), help="Draw the pulls there.")
def toys(
    problem: Problem,
    json_to: Any,
    number: int,
    seed: int,
    store: Path | None,
    batch_size: int | None,
    npz: Path | None,
    shard: tuple[int, int] | None,
    plot_to: Path | None,
) -> None:
    """Fit toys of the fitted model, and look at their pulls."""
    if shard is not None:
        with refused():
            known = size_of_batches(store) if batch_size is None and store is not None else batch_size
            batches_of(shard, *batches_in(number, known))
    result = _minimum(problem, json_to, npz)
    drawn = Toys(number, jax.random.key(seed))
    fits = fit_toys(
        problem.nll,
        result.params,
        drawn,
        data=problem.data,
        covariance=result.covariance,
        progress=True,
        store=store,
        batch_size=batch_size,
        shard=shard,
    )
    study = pull_study(fits, result.params)
    n_valid = study.total - study.num_failed
    fields = ("mean", "mean_error", "width", "width_error", "count")
    by_name = {
        name: {field: getattr(study, field)[i] for field in fields} | {"left_out": n_valid - study.count[i]}
        for i, name in enumerate(study.names)
    }
    numbers = {
        "toys": study.total,
        "valid": n_valid,
        "pulls": by_name,
        "names": list(fits.names),
        "values": fits.values,
    }
    told(f"{study}{_left_out(study, n_valid)}", numbers, json_to)
    if plot_to is not None:
        if len(study.names) > _PULLS:
            click.echo(f"The picture shows the first {_PULLS} of {len(study.names)} parameters.", err=True)
        picture(plot_to, lambda ax: _draw_pulls(study, ax))
    ended(n_valid > 0)


@main.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--into", required=True, type=click.Path(file_okay=False, path_type=Path), help="The merged store.")
@click.option("--leave-out", is_flag=True, help="Take what is right, and leave out the rest.")
@click.option("--json", "json_to", type=JsonFile(), help="Write the numbers there; - is the terminal.")
def merge(stores: tuple[Path, ...], into: Path, leave_out: bool, json_to: Any) -> None:
    """Join the stores of the shards of one study of toys, or of one limit by toys."""
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        try:
            merged = merge_stores(stores, into, leave_out=leave_out)
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error).replace("merge(..., leave_out=True)", "--leave-out")) from None
    for warning in left_out:
        click.echo(str(warning.message), err=True)
    if isinstance(merged, StudyStore):
        told(merged, {"studies": [_of_study(study) for study in merged.studies]}, json_to)
        return
    numbers = {"toys": len(merged), "of": merged.n, "valid": int(np.sum(merged.valid)), "missing": merged.missing}
    told(merged, numbers | {"names": merged.names, "values": merged.values}, json_to)


def _of_study(study: StatisticStore) -> dict[str, Any]:
    numbers = {"what": study.what, "toys": len(study), "of": study.n, "missing": study.missing}
    return numbers | {"statistic": study.values, "status": [Status(int(s)).name for s in np.ravel(study.status)]}


def _draw_pulls(study: PullStudy, ax: Any) -> None:
    """Draw a histogram for each parameter, in place of the single axes."""
    names = study.names[:_PULLS]
    columns = math.ceil(math.sqrt(len(names)))
    rows = math.ceil(len(names) / columns)
    figure = ax.figure
    ax.remove()
    figure.set_size_inches(4.8 * columns, 3.6 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, panel in zip(names, grid, strict=False):
        plot.pulls(study, name, panel)
    for panel in grid[len(names) :]:
        panel.remove()


def _left_out(study: PullStudy, n_valid: int) -> str:
    """The numbers of toys whose fit is valid but that have no pull."""
    incomplete = [
        f"{name} {n_valid - count}" for name, count in zip(study.names, study.count, strict=True) if count < n_valid
    ]
    if not incomplete:
        return ""
    return (
        f"\nLeft out of the pulls, as there is no error at a limit: {', '.join(incomplete)} (of {n_valid} valid toys)"
    )


@main.command()
@on_a_file
@click.option("--poi", help="The parameter of interest; default: the file's.")
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many of the largest are shown."
)
@click.option("--linear", is_flag=True, help="To first order, from the covariance, without refits.")
@click.option("--plot", "plot_to", type=PictureFile(), help="Draw pulls and impacts there.")
def impacts(problem: Problem, json_to: Any, poi: str | None, top: int, linear: bool, plot_to: Path | None) -> None:
    """Rank nuisance parameters by their impact."""
    name = problem.poi(poi)
    ranked = impacts_of(problem.nll, _minimum(problem, json_to), problem.data, name, linear=linear)
    sizes = np.fmax(np.abs(np.asarray(ranked.postfit_up)), np.abs(np.asarray(ranked.postfit_down)))
    order = np.argsort(-np.nan_to_num(sizes))
    fields = ("postfit_down", "postfit_up", "prefit_down", "prefit_up", "linear", "pulls", "constraints")
    by_name = {ranked.names[i]: {field: getattr(ranked, field)[i] for field in fields} for i in order}
    largest = order[:top]
    shown = jax.tree.map(lambda a: a[largest], ranked)
    shown = dataclasses.replace(shown, names=tuple(ranked.names[i] for i in largest))
    told(shown, {"poi": name, "impacts": by_name}, json_to)
    if plot_to is not None:
        picture(plot_to, lambda ax: _draw_impacts(shown, ax))
    ended(bool(np.all(ranked.valid)))


def _draw_impacts(shown: Impacts, ax: Any) -> None:
    """Draw pulls and impacts, in place of the single axes."""
    figure = ax.figure
    ax.remove()
    figure.set_size_inches(8.0, max(2.6, 1.4 + 0.3 * len(shown.names)))
    plot.impacts(shown, figure.subplots(1, 2, sharey=True, width_ratios=(2, 3)), top=len(shown.names))
