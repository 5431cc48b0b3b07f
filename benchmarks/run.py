"""Runs the benchmarks, each in a fresh process, and writes the page of what was measured.

python -m benchmarks.run [--quick] [--only NAME]
"""

import argparse
import sys
import time

from ._common import python

NAMES = (
    *("first_call", "warm_fit", "scaling", "minos", "cauchy_hessian", "robustness"),
    *(
        "unbinned",
        "likelihoods",
        "densities",
        "density_events",
        "template_fit",
        "on_disk",
        "toys",
        "toys_scaling",
        "hypotest",
    ),
    *("workspace", "workspace_limit", "limit_scaling", "workspace_scaling", "large", "shards"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="check the answers in seconds; no times, no JSON")
    parser.add_argument("--only", choices=NAMES, action="append", help="run this benchmark; may be given again")
    options = parser.parse_args()
    failed = []
    for name in options.only or NAMES:
        print(f"\n== {name}", flush=True)
        start = time.perf_counter()
        done = python("-m", f"benchmarks.{name}", *(["--quick"] if options.quick else []), capture=False)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
        failed += [name] if done.returncode else []
    done = python("-m", "benchmarks.report", *(["--check"] if options.quick else []), capture=False)
    failed += ["report"] if done.returncode else []
    if failed:
        sys.exit("failed: " + ", ".join(failed))


if __name__ == "__main__":
    main()
