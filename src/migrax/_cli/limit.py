"""The command `limit`: upper limits by asymptotic formulas or by toys, whose statistics are kept and made in parts."""

from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np

from .. import plot
from .._hypotest import LimitStatus, UpperLimit, hypotest, upper_limit
from .._hypotest.cells import words
from .._hypotest.toy_limit import check_toys
from .._profile.levels import probability
from .._toys.source import Toys
from .group import main
from .options import PictureFile, Shard, Values, checked, refuse
from .output import ended, picture, told
from .problem import Problem, on_a_file


@main.command()
@on_a_file
@click.option("--poi", help="The parameter of interest; default: the file's.")
@click.option("--cl", default=0.95, show_default=True, callback=checked(probability), help="Confidence level.")
@click.option("--cls/--no-cls", default=True, help="CLs, or the p-value of the signal alone.")
@click.option(
    "--toys", type=click.IntRange(min=1), help="By that many toys of each hypothesis, not by asymptotic formulas."
)
@click.option("--seed", default=0, show_default=True, help="Of the toys.")
@click.option(
    "--values",
    type=Values(),
    help="With --toys: make them at these values of the parameter (low:high:number, or a list), and search no others.",
)
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --toys: keep their statistics in this folder; the same command goes on, or only reads.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="With --store: how many toys a batch has.")
@click.option(
    "--shard",
    type=Shard(),
    help="With --toys and --values: make the i-th of n parts of the toys, i from 0 to n - 1. For merge.",
)
@click.option("--plot", "plot_to", type=PictureFile(), help="Draw CLs against the parameter there.")
def limit(
    problem: Problem,
    json_to: Any,
    poi: str | None,
    cl: float,
    cls: bool,
    toys: int | None,
    seed: int,
    values: Any,
    store: Path | None,
    batch_size: int | None,
    shard: tuple[int, int] | None,
    plot_to: Path | None,
) -> None:
    """Find the upper limit on the signal, observed and expected."""
    name = problem.poi(poi)
    given = {"--values": values, "--store": store, "--batch-size": batch_size, "--shard": shard}
    calculator = _calculator(toys, seed, cl, {option: value for option, value in given.items() if value is not None})
    try:
        limits = upper_limit(
            problem.nll, problem.params, problem.data, name, cl=cl, cls=cls, calculator=calculator, values=values
        )
    except (ValueError, OSError) as error:
        if store is None and values is None:
            raise
        raise click.ClickException(str(error)) from None
    statuses = {LimitStatus(int(s)) for s in np.append(np.asarray(limits.expected_status), np.asarray(limits.status))}
    is_valid = statuses <= {LimitStatus.FOUND, LimitStatus.NONE_ALLOWED}
    note = f"\nNone allowed: {name} is excluded without a signal already" * (LimitStatus.NONE_ALLOWED in statuses)
    if shard is not None and calculator is not None:
        i, n = shard
        note += f"\nBy {calculator.part.n} of {calculator.n} toys: part {i} of {n}, for merge"
    told(f"{limits}{note}", _numbers(limits) | {"valid": is_valid}, json_to)
    if plot_to is not None:
        _draw_scan(problem, limits, plot_to)
    # what counts of a job are its toys, not the limit that they give alone
    ended(is_valid or (shard is not None and bool(limits.free.valid)))


def _calculator(toys: int | None, seed: int, cl: float, given: dict[str, Any]) -> Toys | None:
    """**Raises:** `click.UsageError` for options that need toys or values, or too few toys."""
    if toys is None:
        return refuse(f"{next(iter(given))} is for toys: give --toys") if given else None
    if "--shard" in given and "--store" not in given:
        refuse("--shard: the toys of a part are for merge, give the --store that keeps them")
    if "--shard" in given and "--values" not in given:
        refuse("--shard: a search needs all toys; give the --values at which all jobs make theirs")
    how: dict[str, Any] = {name: given.get(f"--{name.replace('_', '-')}") for name in ("store", "shard", "batch_size")}
    try:
        calculator = Toys(toys, jax.random.key(seed), progress=True, **how)
        check_toys((), calculator, 1 - cl, "limit")
    except ValueError as error:
        refuse(f"--toys {toys}: {error}")
    return calculator


def _numbers(limits: UpperLimit) -> dict[str, Any]:
    status, expected_status = LimitStatus(int(limits.status)), [LimitStatus(int(s)) for s in limits.expected_status]
    numbers = {
        "poi": limits.name,
        "cl": limits.cl,
        "cls": limits.cls,
        "observed": limits.observed,
        "expected": limits.expected,
        "observed_error": limits.observed_error,
        "expected_error": limits.expected_error,
        "status": words(status),
        "expected_status": [words(s) for s in expected_status],
        "fitted": limits.best,
    }
    if limits.scales is not None:
        numbers["scales"] = {name: float(scale) for name, scale in limits.scales.items()}
    return numbers


def _draw_scan(problem: Problem, limits: UpperLimit, plot_to: Path) -> None:
    """Draw CLs up to somewhat above the limits."""
    ends = np.append(np.asarray(limits.expected), np.asarray(limits.observed))
    if not np.any(np.isfinite(ends)):
        click.echo("No picture: there is no limit to draw CLs up to.", err=True)
        return
    values = jnp.linspace(0.0, 1.2 * float(np.nanmax(ends)), 41)
    upper = limits.free.upper[limits.free.names.index(limits.name)]
    test_at = lambda mu: hypotest(problem.nll, problem.params, problem.data, limits.name, mu)  # noqa: E731
    tests = jax.jit(lambda v: jax.lax.map(test_at, v))(values[values <= upper])
    picture(plot_to, lambda ax: plot.cls_scan(tests, ax, cl=limits.cl))
