"""`python -m migrax`: fits, errors, limits, toys and impacts of workspaces on the command line."""

import sys
import warnings
from typing import Any


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as a sentence, without the line of the code that it comes from."""
    print(f"Warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    try:
        import click as _  # noqa: F401
    except ImportError:
        sys.exit('the command line needs click: pip install "migrax[cli]"')
    from ._cli import main

    warnings.showwarning = _show
    main(prog_name="python -m migrax")
