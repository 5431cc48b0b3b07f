"""Draws `pictures/dataflow.svg`, the floors of the house and what comes from where: `python docs/dataflow.py`.

The floors are those that import-linter holds (`[tool.importlinter]` in pyproject.toml), the arrows the imports that the
code has, without those that a longer way shows. A test holds the picture against both.
"""

import ast
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "migrax"

IDEAS = {
    "_cli": "commands, tables, JSON",
    "compat": "Minuit, iminuit's names",
    "plot": "pictures of results",
    "io": "pyhf, HS3, iminuit",
    "_hypotest": "tests, limits, discovery",
    "_studies": "pulls, coverage, bias",
    "_toys": "toys: drawn, fitted",
    "_profile": "minos, profile, contour",
    "_stores": "long work kept on disk",
    "_fit": "fit, hesse: FitResult",
    "_likelihoods": "what an nll can be asked",
    "_derivatives": "exact, kinks, one mode",
    "_parameters": "trees to vectors, bounds",
    "distributions": "densities",
    "_solvers": "Migrad, Newton, Simplex",
    "_host": "jaxprs by NumPy",
    "_util": "jit, chunks, tracing",
    "_hints": "what was meant",
    "_display": "tables from records",
}
_WIDTH, _HEIGHT, _ACROSS, _DOWN = 2.4, 0.6, 3.1, 1.0


def floors() -> list[list[str]]:
    """The packages of each floor, the highest first."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in rules["contracts"] if contract["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def imports() -> set[tuple[str, str]]:
    """Which package takes something from which, as (above, below)."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        package = file.relative_to(SOURCE).parts[:-1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if package and isinstance(node, ast.ImportFrom) and node.level > len(package):
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                found |= {(package[0], name) for name in names}
    return found


def arrows() -> set[tuple[str, str]]:
    """The imports without those that a longer way shows."""
    direct = imports()

    def leads(start: str, end: str) -> bool:
        return any(a == start and (b == end or leads(b, end)) for a, b in direct)

    return {(a, b) for a, b in direct if not any(x == a and y != b and leads(y, b) for x, y in direct)}


def places() -> dict[str, tuple[float, float]]:
    rows = floors()
    return {
        name: (_ACROSS * (k - (len(row) - 1) / 2), -_DOWN * i)
        for i, row in enumerate(rows)
        for k, name in enumerate(row)
    }


def draw(path: Path) -> None:
    """Writes the picture."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dataflow", "font.size": 9})
    at = places()
    figure, ax = plt.subplots(figsize=(8.6, 10.2))
    for name, (x, y) in at.items():
        colour = "#deebf7" if name.startswith("_") else "#fee8c8"
        ax.add_patch(
            plt.Rectangle((x - _WIDTH / 2, y - _HEIGHT / 2), _WIDTH, _HEIGHT, fc=colour, ec="#555555", lw=0.8, zorder=2)
        )
        ax.text(x, y + 0.13, name, ha="center", va="center", family="monospace", zorder=3)
        ax.text(x, y - 0.14, IDEAS[name], ha="center", va="center", fontsize=8, zorder=3)
    for above, below in sorted(arrows()):
        (x0, y0), (x1, y1) = at[below], at[above]
        shift = max(-0.3, min(0.3, (x1 - x0) / 8)) * _WIDTH
        ends = (x0 + shift, y0 + _HEIGHT / 2), (x1 - shift, y1 - _HEIGHT / 2)
        bend = "arc3" if y1 - y0 < 1.5 * _DOWN else f"arc3,rad={0.25 if x0 + x1 >= 0 else -0.25}"
        style = {"arrowstyle": "-|>", "color": "#333333", "lw": 0.9, "connectionstyle": bend}
        ax.annotate("", ends[1], ends[0], arrowprops=style, zorder=1)
    ax.set(xlim=(-4.9, 4.9), ylim=(-_DOWN * (len(floors()) - 1) - 0.5, 0.5))
    ax.axis("off")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw(ROOT / "docs" / "pictures" / "dataflow.svg")
