"""The page of what was measured: writes `docs/benchmarks.md`, its charts and the README's table.

All of `results/*.json`, which the benchmarks wrote: nothing is measured here. `python -m benchmarks.report [--check]`.
"""

import argparse
import importlib
import json
import re
import sys
from types import ModuleType

from . import _charts
from ._common import BESIDE, PEERS, RESULTS, ROOT
from ._headlines import table as headlines
from ._tables import Row, Table
from .run import NAMES

PAGE = ROOT / "docs" / "benchmarks.md"
CHARTS = ROOT / "docs" / "benchmarks"
README = ROOT / "README.md"

_MEASURED = re.compile(r"(<!-- measured: [^\n]* -->\n).*?(<!-- /measured -->)", re.DOTALL)
_TOP = """# Benchmarks

What migrax takes, beside its peers in the same run: `make bench` measures, and writes this page of
`benchmarks/results/*.json`. A time is the median, in brackets the quartiles. How it is measured, what each column means
and how to run it: `benchmarks/README.md`. An answer is checked before its time is taken; what failed has no time, and
says why.

"""


def records() -> dict[str, Row]:
    """What was measured, by the name of the benchmark; with a second Python beside it."""
    found = [path for name in NAMES for path in (RESULTS / f"{name}.json", *RESULTS.glob(f"{name}{BESIDE}*.json"))]
    return {path.stem: json.loads(path.read_text()) for path in found if path.exists()}


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name.partition(BESIDE)[0]}")


def page(measured: dict[str, Row], with_charts: set[str]) -> str:
    """The page in Markdown. `with_charts`: the names of the charts that there are."""
    parts = [_TOP, "## At a glance\n", headlines(measured)]
    for name, record in measured.items():
        module, (title, _, python) = _module(name), name.partition(BESIDE)
        about = f"As above, with Python {python}." if python else _about(module)
        title += f", Python {python}" if python else ""
        parts += [f"\n## {title}\n", f"{about}\n", f"{_machine(record['machine'])}\n"]
        for i, table in enumerate(module.tables(record)):
            if not table.rows:
                continue
            parts.append(f"{table.markdown()}\n")
            if _chart(name, i) in with_charts:
                parts.append(f"![{table.title}](benchmarks/{_chart(name, i)})\n")
    return "\n".join(parts)


def readme(text: str, measured: dict[str, Row]) -> str:
    """The README with its table as measured."""
    return _MEASURED.sub(lambda found: f"{found[1]}{headlines(measured)}{found[2]}", text)


def tables(measured: dict[str, Row]) -> dict[str, Table]:
    """All tables by the names of their charts."""
    return {
        _chart(name, i): table
        for name, record in measured.items()
        for i, table in enumerate(_module(name).tables(record))
    }


def _chart(name: str, i: int) -> str:
    return f"{name}_{i}.svg"


def _about(module: ModuleType) -> str:
    """The module's docstring, what it is about, as one paragraph each."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (module.__doc__ or "").strip())


def _machine(machine: Row) -> str:
    named = ("jax", "optimistix", "iminuit", "numpy", *PEERS)
    versions = ", ".join(f"{name} {machine[name]}" for name in named if name in machine)
    what = f"{machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, {versions}"
    return f"*{machine['date']}, {what}; load {machine['load_average']} at the start.*"


def stale() -> list[str]:
    """What does not say what was measured: the files that `write` would change, charts by their names alone."""
    measured = records()
    drawn = {path.name for path in CHARTS.glob("*.svg")}
    wanted = {name for name, one in tables(measured).items() if _charts.rows_of(one)}
    wrong = [] if drawn == wanted else [str(CHARTS.relative_to(ROOT))]
    wrong += [] if PAGE.exists() and PAGE.read_text() == page(measured, wanted) else [str(PAGE.relative_to(ROOT))]
    return wrong + ([] if README.read_text() == readme(README.read_text(), measured) else [README.name])


def write() -> None:
    """Writes the page, its charts and the README's table."""
    measured = records()
    CHARTS.mkdir(exist_ok=True)
    for old in CHARTS.glob("*.svg"):
        old.unlink()
    drawn = {name for name, one in tables(measured).items() if _charts.draw(one, CHARTS / name)}
    PAGE.write_text(page(measured, drawn))
    README.write_text(readme(README.read_text(), measured))
    print(f"wrote {PAGE.relative_to(ROOT)}, {len(drawn)} charts and the README's table")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is not up to date")
    if not parser.parse_args().check:
        write()
    elif wrong := stale():
        sys.exit(f"not what benchmarks/results say: {', '.join(wrong)}; run python -m benchmarks.report")


if __name__ == "__main__":
    main()
