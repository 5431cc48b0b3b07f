"""Importing migrax: nothing that is optional, nothing before it is asked for, and names that editors know."""

import subprocess
import sys

import pytest

import migrax as mx

OPTIONAL = ("matplotlib", "pyhf", "pyhs3", "hist", "iminuit", "pandas", "tqdm", "rich", "click", "scipy.optimize")


def modules_after(code: str) -> set[str]:
    listed = "import sys, jax, equinox, optimistix; before = set(sys.modules)\n" + code
    listed += "\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_brings_nothing_but_a_list_of_names():
    found = modules_after("import migrax")
    assert {name for name in found if name.startswith("migrax")} == {"migrax", "migrax._util", "migrax._util.lazy"}


@pytest.mark.slow
def test_all_public_names_need_no_optional_package():
    found = modules_after("import migrax as mx; [getattr(mx, name) for name in mx.__all__]")
    assert "migrax._fit.fit" in found
    assert not {name for name in found for other in OPTIONAL if name == other or name.startswith(other + ".")}


@pytest.mark.parametrize("name", mx.__all__)
def test_each_name_is_what_it_says(name):
    found = getattr(mx, name)
    assert getattr(found, "__name__", name).removeprefix("migrax.") == name
    assert vars(mx)[name] is found
    assert name in dir(mx)


def test_an_unknown_name_is_told_with_a_near_one():
    code = "import migrax as mx; mx.Migrd"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "module 'migrax' has no attribute 'Migrd'" in done.stderr
    assert done.stderr.count("Did you mean 'Migrad'?") == 1
    assert not hasattr(mx, "_no_such_name")
