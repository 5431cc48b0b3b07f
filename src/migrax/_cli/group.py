"""The group of all commands."""

import click
import jax


@click.group(epilog="Exit codes: 0; 1: a file that is not right; 2: wrong usage; 3: what was found is not valid.")
@click.version_option(package_name="migrax")
def main() -> None:
    """Maximum-likelihood fits of pyhf workspaces and HS3 documents.

    Tables go to the terminal; --json writes the numbers. In float64.
    """
    # unlike the library, a program may choose the precision
    jax.config.update("jax_enable_x64", True)
