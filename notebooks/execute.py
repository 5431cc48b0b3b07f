"""Executes the notebooks and checks that they run through, say nothing to stderr and stay small.

    python notebooks/execute.py [--write] [--jobs N] [NAME ...]

`--write` keeps the new outputs; without it nothing is changed. The first measures times: write it on a quiet machine.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).resolve().parent
SECONDS = 600
KILOBYTES = 400


def complaint(path: Path, notebook: nbformat.NotebookNode) -> str | None:
    """What is wrong with an executed notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                return f"printed to stderr: {output.text.strip()[-500:]}"
        images = [o for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        if cell.cell_type == "code" and "plt.show()" in cell.source and not images:
            return f"has no picture of {cell.source[:100]!r}"
    size = len(nbformat.writes(notebook)) / 1e3
    if size > KILOBYTES:
        return f"holds {size:.0f} kB with its outputs, {KILOBYTES} are allowed"
    text = nbformat.writes(notebook)
    return "holds this machine's paths" if str(HERE.parent) in text or str(Path.home()) in text else None


def execute(path: Path, write: bool) -> str | None:
    """Executes one notebook and returns what went wrong."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    try:
        nbclient.NotebookClient(
            notebook, timeout=SECONDS, resources={"metadata": {"path": str(HERE)}}, record_timing=False
        ).execute()
    except (nbclient.exceptions.CellExecutionError, nbclient.exceptions.CellTimeoutError) as error:
        return str(error)
    wrong = complaint(path, notebook)
    if write and wrong is None:
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(notebook, path)
    print(f"{path.stem}: {time.perf_counter() - start:.0f} s", flush=True)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python notebooks/execute.py", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="without .ipynb; all of them if none is given")
    parser.add_argument("--write", action="store_true", help="keep the new outputs")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at once")
    options = parser.parse_args()
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # whatever the shell says
    paths = [HERE / f"{name}.ipynb" for name in options.names] or sorted(HERE.glob("*.ipynb"))
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(lambda path: execute(path, options.write), paths))
    wrong = [f"{path.name}: {text}" for path, text in zip(paths, found, strict=True) if text]
    if wrong:
        sys.exit("\n\n".join(wrong))
    print(f"{len(paths)} notebooks ran through")


if __name__ == "__main__":
    main()
