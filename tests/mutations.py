"""Breaks one formula at a time, and looks whether a test fails: `python tests/mutations.py [PATTERN ...]`.

A test that cannot fail is worse than none. Each entry of `MUTATIONS` is a file of `src/migrax`, a piece of it that
stands there once, what is written in its place, and the tests that must fail then. The sources are copied; nothing here
is changed.
The exit code is 1 if a mutation survives, or its place is not found.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOLVERS = "tests/test_solvers.py tests/test_solver_contract.py"


class Mutation(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation(
        "BFGS: the correction of the third term",
        "_solvers/metric.py",
        "+ yvy * xp.outer(u, u)",
        "- yvy * xp.outer(u, u)",
        SOLVERS,
    ),
    Mutation(
        "EDM: half of the gradient's step",
        "_solvers/migrad.py",
        "edm = -0.5 * (grad @ direction)",
        "edm = -0.0005 * (grad @ direction)",
        SOLVERS,
    ),
    Mutation(
        "dcov: forgotten",
        "_solvers/migrad.py",
        "done = trusted & (edm * (1 + 3 * dcov) <= goal)",
        "done = trusted",
        SOLVERS,
    ),
    Mutation(
        "saddle: not left",
        "_solvers/migrad.py",
        "push=xp.where(saddle, push, 0.0)",
        "push=xp.where(saddle, 0.0, 0.0)",
        SOLVERS,
    ),
    Mutation(
        "the exact look at the end: believed in any case",
        "_solvers/migrad.py",
        "confirmed = confirmed | (~seen.finite & ~gave_up)",
        "confirmed = confirmed | True",
        SOLVERS,
    ),
    Mutation(
        "verdict: the sign of the push at a bound",
        "_fit/active_set.py",
        "stays = -sign * slope[None] > weak[None]",
        "stays = sign * slope[None] > weak[None]",
        "tests/test_fit.py tests/test_known_answers.py",
    ),
    Mutation(
        "verdict: a flat direction is none",
        "_fit/loop.py",
        "((flat & ~sloped) | (near & ~c.stable), Status.FLAT_DIRECTION)",
        "(near & False, Status.FLAT_DIRECTION)",
        "tests/test_known_answers.py",
    ),
    Mutation(
        "bounds: the slope of the two-sided transform",
        "_parameters/space.py",
        "xp.where(both, half * xp.cos(q)",
        "xp.where(both, half * xp.sin(q)",
        "tests/test_space.py",
    ),
    Mutation(
        "bounds: the curvature of the one-sided transform",
        "_parameters/space.py",
        "sign / hypotenuse**3",
        "sign / hypotenuse**2",
        "tests/test_space.py",
    ),
    Mutation(
        "MINOS: the height of a crossing",
        "_profile/crossing_newton.py",
        "off_axis, 0.5 * z**2, s, f, g)",
        "off_axis, 0.5 * abs(z), s, f, g)",
        "tests/test_minos.py",
    ),
    Mutation(
        "names: where the pieces of a join are",
        "_util/pieces.py",
        "np.ravel(addresses) + shift[of_source]",
        "np.ravel(addresses) - shift[of_source]",
        "tests/test_pieces.py",
    ),
    Mutation(
        "CLs: divided by the p-value of the background",
        "_hypotest/limit_curve.py",
        "return log_sb - (log_b if level.cls else 0.0) - level.log_alpha",
        "return log_sb - level.log_alpha",
        "tests/test_hypotest.py",
    ),
    Mutation(
        "limits: the parameter of interest at its bound has no covariance",
        "_hypotest/limit_crossing.py",
        "v = others + xp.outer(tangent, tangent) / xp.where(curvature > 0, curvature, 1.0)",
        "v = minimum.covariance",
        "tests/test_limit_crossings.py -k same_as_by_newton",
    ),
    Mutation(
        "crossings: what does not move begins at its bound",
        "_profile/crossing.py",
        "start=xp.where(minimum.active & ~held, x, base)",
        "start=base",
        "tests/test_contour.py -k another_parameter_at_its_bound",
    ),
    Mutation(
        "limits: the derivative of the root",
        "_hypotest/limit_root.py",
        "-change / xp.where(found, slope, -1.0)",
        "change / xp.where(found, slope, -1.0)",
        "tests/test_hypotest.py -k derivatives",
    ),
    Mutation(
        "HistFactory: interpolation of normsys",
        "io/histfactory/block.py",
        "factors = product(numbers[self.factors.array]) * product_of_many(self._norms(numbers))",
        "factors = product(numbers[self.factors.array])",
        "tests/test_from_pyhf.py -k same_likelihood",
    ),
)


def survives(mutation: Mutation) -> bool:
    """Whether all tests pass with it.

    **Raises:** `SystemExit` where they do not run, or where the piece does not stand there once.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        path = source / "migrax" / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(
                f"{mutation.name}: {mutation.old!r} stands {text.count(mutation.old)} times in {mutation.file}"
            )
        path.write_text(text.replace(mutation.old, mutation.new))
        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        # migrax may be installed in place: what stands first on the path is imported
        environment = os.environ | {"PYTHONPATH": str(source), "MPLBACKEND": "Agg"}
        command = [sys.executable, "-m", "pytest", *options, *mutation.tests.split()]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):  # 1: tests ran and some failed
            raise SystemExit(f"{mutation.name}: the tests did not run.\n{done.stdout[-2000:]}")
        return done.returncode == 0


def main(patterns: list[str]) -> None:
    chosen = [m for m in MUTATIONS if not patterns or any(p.lower() in m.name.lower() for p in patterns)]
    left = []
    for mutation in chosen:
        start = time.perf_counter()
        alive = survives(mutation)
        left += [mutation.name] if alive else []
        print(f"{'SURVIVES' if alive else 'killed':9}{mutation.name} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"{len(chosen) - len(left)} of {len(chosen)} killed")
    if left:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
