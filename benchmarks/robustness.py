"""How often a fit finds the minimum, and how often it says so wrongly.

200 random starts of the tutorial's histogram, with the tutorial's likelihood and with `mx.PoissonNLL` on the logs of
the bins' integrals; and the 54 fits (27 problems, two starts) of the NIST StRD.
"""

import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import migrax as mx

from . import _tutorial as tutorial
from ._common import ROOT, Row, Table, main
from ._contestants import TIGHT, Contestant, Fit, iminuit, migrax, optimistix

sys.path.insert(0, str(ROOT / "tests"))
from nist import PROBLEMS, Problem  # pyright: ignore[reportMissingImports]

STARTS = 200
RIGHT = 1e-3
"""How near to the known minimum the function has to come."""

LIKELIHOODS = {"tutorial": tutorial.nll, "PoissonNLL": tutorial.stable_nll}
SOLVERS = {"migrax": None, "mx.Migrad": mx.Migrad(), "mx.Newton": mx.Newton()}
NIST_CONTESTANTS = ("migrax", "mx.Migrad", "iminuit", "iminuit, tight", "optx.BFGS")


def random_starts(count: int = STARTS) -> Float[np.ndarray, "count 3"]:
    rng = np.random.default_rng(42)
    return np.array([(10 ** rng.uniform(3, 5), rng.normal(0, 2), 10 ** rng.uniform(-0.5, 1)) for _ in range(count)])


def contestants(nll: Any) -> list[Contestant]:
    vector = tutorial.of_vector(nll)
    return [
        migrax(nll, tutorial.params, jit=True),
        migrax(nll, tutorial.params, mx.Newton(), jit=True, name="mx.Newton"),
        iminuit(vector, tutorial.LIMITS, hesse=False),
        optimistix(vector),
    ]


def _counts(name: str, fits: list[Fit], right: list[bool]) -> Row:
    """How many fits are right, said to be valid, and said so falsely; evaluations are those of the right ones."""
    good = [fit for fit, is_right in zip(fits, right, strict=True) if is_right]
    totals = [sum(fit.evaluations.values()) for fit in good]
    return {
        "name": name,
        "fits": len(fits),
        "right": sum(right),
        "valid": sum(fit.valid for fit in fits),
        "falsely_valid": sum(fit.valid and not is_right for fit, is_right in zip(fits, right, strict=True)),
        "right_not_valid": sum(is_right and not fit.valid for fit, is_right in zip(fits, right, strict=True)),
        "evaluations_median": float(np.median(totals)) if totals else None,
        "evaluations_max": max(totals, default=None),
    }


def histogram_rows(likelihood: str, players: list[Contestant], starts: Any) -> list[Row]:
    data = jnp.asarray(tutorial.COUNTS, float)
    rows = []
    for player in players:
        fits = [player.fit(start, data) for start in starts]
        right = [abs(fit.nll - tutorial.MINIMUM) < RIGHT for fit in fits]
        rows.append({"likelihood": likelihood} | _counts(player.name, fits, right))
    return rows


def _points(problem: Problem) -> mx.Points:
    """The data with the errors that make NIST's standard errors those of a chi2 fit."""
    return mx.Points(problem.x, problem.y, yerr=np.sqrt(problem.rss / problem.dof))


def solved(problem: Problem, fit: Fit, within: float) -> bool:
    """Within so many errors of the certified values (or as near as their eleven digits can tell), or as near to the
    certified sum of squares: Eckerle4 has the same minimum with the signs of two parameters turned."""
    apart = np.abs(fit.values - problem.certified)
    at_values = np.all(apart < within * problem.stderr + 1e-10 * np.abs(problem.certified))
    at_minimum = abs(fit.nll - 0.5 * problem.dof) < 0.5 * within**2 + 1e-9 * problem.dof
    return bool(at_values or at_minimum)


def nist_player(problem: Problem, name: str) -> Contestant:
    nll = mx.LeastSquares(lambda p, x: problem.model(p["b"], x))
    if name in SOLVERS:
        return migrax(nll, lambda start: {"b": start}, SOLVERS[name], jit=True, name=name)
    vector = lambda x, data: nll({"b": x}, data)  # noqa: E731
    if name == "optx.BFGS":
        return optimistix(vector)
    return iminuit(vector, hesse=False, tol=TIGHT if name == "iminuit, tight" else None)


def nist_rows(problems: list[Problem], names: tuple[str, ...]) -> tuple[list[Row], dict[str, Row]]:
    """One row a contestant, and for each what it did not solve or called valid falsely."""
    rows, details = [], {}
    for name in names:
        fits, right, missed = [], [], {}
        for problem in problems:
            player, data = nist_player(problem, name), _points(problem)
            for label, start in (("far", problem.start1), ("near", problem.start2)):
                fit = player.fit(start, data)
                fits.append(fit)
                right.append(solved(problem, fit, player.within))
                if not (right[-1] and fit.valid):
                    missed[f"{problem.name}, {label}"] = {"right": right[-1], "valid": fit.valid} | fit.evaluations
        rows.append(_counts(name, fits, right))
        details[name] = missed
    return rows, details


COLUMNS = {"name": "", "right": "right", "valid": "valid", "falsely_valid": "falsely valid"}
COLUMNS |= {"right_not_valid": "right, not valid"}
COLUMNS |= {"evaluations_median": "evaluations, median", "evaluations_max": "most"}


def measure() -> Row:
    histogram = []
    for likelihood in LIKELIHOODS:
        rows = histogram_rows(likelihood, contestants(LIKELIHOODS[likelihood]), random_starts())
        histogram += rows
    nist, details = nist_rows(list(PROBLEMS.values()), NIST_CONTESTANTS)
    ours = [row for row in (*histogram, *nist) if row["name"] in SOLVERS]
    failed = any(row["falsely_valid"] for row in ours)
    return {"histogram": histogram, "nist": nist, "nist_missed": details, "migrax_failed": failed}


def tables(record: Row) -> list[Table]:
    drawn = ("right", "falsely_valid")
    found = []
    for likelihood in LIKELIHOODS:
        title = f"{STARTS} random starts of the tutorial's histogram, {likelihood}"
        rows = [row for row in record["histogram"] if row["likelihood"] == likelihood]
        found.append(Table(title, rows, COLUMNS, chart=drawn))
    found.append(Table("NIST StRD, 27 problems from two starts", record["nist"], COLUMNS, chart=drawn))
    missed = [
        {"name": name, "problem": problem} | how
        for name, all_ in record["nist_missed"].items()
        for problem, how in all_.items()
    ]
    columns = {"name": "", "problem": "problem", "right": "right", "valid": "valid"}
    columns |= {"gradients": "gradients", "hessians": "Hessians", "values": "values"}
    found.append(Table("Problems of NIST that were missed", missed, columns))
    return found


def check() -> list[str]:
    """migrax alone: from the first starts nothing falsely valid, and everything found where the tails are kept."""
    wrong = []
    for likelihood, nll in LIKELIHOODS.items():
        row = histogram_rows(likelihood, contestants(nll)[:1], random_starts(5))[0]
        wrong += [f"{likelihood}: falsely valid"] if row["falsely_valid"] else []
        wrong += [f"{likelihood}: not all of 5 starts"] if nll is tutorial.stable_nll and row["valid"] < 5 else []
    row = nist_rows([PROBLEMS["Misra1a"]], ("migrax",))[0][0]
    return wrong + ([] if row["right"] == row["valid"] == 2 else ["NIST: Misra1a"])


if __name__ == "__main__":
    main("robustness", measure, tables, check)
