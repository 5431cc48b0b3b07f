"""`python -m migrax`: fits, errors, limits, toys and impacts of workspaces on the command line."""

import sys

if __name__ == "__main__":
    try:
        import click as _  # noqa: F401
    except ImportError:
        sys.exit('the command line needs click: pip install "migrax[cli]"')
    from ._cli import main

    main(prog_name="python -m migrax")
