"""Every example runs: the README's blocks in one session, and those of the docstrings."""

import inspect
import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(text):
    return BLOCK.findall(inspect.cleandoc(text))


@pytest.mark.slow
def test_readme():
    """In a process of its own, compiled as users' programs are: that takes half of the time, as it draws many toys."""
    users = {**os.environ, "XLA_FLAGS": "", "JAX_ENABLE_X64": "0"}  # the README switches float64 on
    script = [sys.executable, "-W", "error::UserWarning", str(ROOT / "tests" / "readme.py")]
    done = subprocess.run(script, env=users, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


PEAK, FLAT = jnp.array([3.0, 20.0, 31.0, 9.0]), jnp.array([25.0, 24.0, 26.0, 25.0])
FLAT_NLL = mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(4))
FLAT_FIT = mx.fit(FLAT_NLL, {"mu": 20.0}, FLAT)
EXAMPLES = {
    "fit": (mx.fit, {"data": jnp.array([0.3, -1.0, 2.0, 0.5])}),
    "Parameter": (mx.Parameter, {}),
    "PoissonNLL": (
        mx.PoissonNLL,
        {
            "edges": jnp.linspace(-3.0, 3.0, 11),
            "counts": jnp.array([1.0, 3, 8, 20, 31, 30, 22, 9, 2, 1]),
            "params": {"amp": 100.0, "mu": 0.1, "sigma": 1.0},
        },
    ),
    "LeastSquares": (mx.LeastSquares, {"x": jnp.arange(5.0), "y": jnp.array([0.1, 1.0, 1.9, 3.2, 4.0])}),
    "BinnedNLL": (mx.BinnedNLL, {}),
    "TemplateNLL": (
        mx.TemplateNLL,
        {"simulated_signal": PEAK, "simulated_background": FLAT, "counts": 0.2 * PEAK + 0.5 * FLAT},
    ),
    "UnbinnedNLL": (mx.UnbinnedNLL, {"x": jnp.array([0.3, -1.0, 2.0, 0.5])}),
    "ExtendedUnbinnedNLL": (mx.ExtendedUnbinnedNLL, {}),
    "SparseEffects": (mx.SparseEffects, {"table": np.diag(np.arange(5.0)), "nominal": jnp.ones(5)}),
    "NormalConstraint": (
        mx.NormalConstraint,
        {
            "expected": lambda p: p["lumi"] * p["mu"] * PEAK,
            "params": {"lumi": 1.0, "mu": 1.0},
            "observed": 0.9 * PEAK,
        },
    ),
    "Joint": (
        mx.Joint,
        {
            "signal_region": mx.PoissonNLL(lambda p: p["lumi"] * p["mu"] * PEAK),
            "control_region": mx.PoissonNLL(lambda p: p["lumi"] * FLAT),
            "params": {"lumi": 1.0, "mu": 1.0},
            "counts": PEAK,
            "others": FLAT,
        },
    ),
    "Likelihood": (mx.Likelihood, {"params": {"mu": 1.0}}),
    "sample": (mx.sample, {"nll": FLAT_NLL, "result": FLAT_FIT}),
    "goodness_of_fit": (mx.goodness_of_fit, {"nll": FLAT_NLL, "result": FLAT_FIT, "counts": FLAT}),
    "chunked_sum": (
        mx.chunked_sum,
        {"log_density": lambda p, image: (image - p["a"]) ** 2, "params": {"a": 0.0}, "image": jnp.ones(30_000)},
    ),
}


@pytest.mark.grid
@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring(name):
    thing, given = EXAMPLES[name]
    namespace = {"mx": mx, "jnp": jnp, "jax": jax, "np": np, "eqx": eqx, **given}
    code = blocks(thing.__doc__)
    assert code
    for block in code:
        exec(compile(block, name, "exec"), namespace)
    if name == "chunked_sum":
        np.testing.assert_allclose(namespace["nll"](namespace["params"], namespace["image"]), 30_000.0)


PUBLIC = [name for name in dir(mx) if not name.startswith("_") and callable(getattr(mx, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    thing = getattr(mx, name)
    doc = thing.__doc__
    assert doc
    assert len(doc.splitlines()[0]) > 10
    if inspect.isfunction(thing):
        for parameter in inspect.signature(thing).parameters:
            assert f"`{parameter}" in doc or f", `{parameter}" in doc, f"{name} does not explain {parameter}"


@pytest.mark.slow
def test_typed_use():
    runpy.run_path(str(ROOT / "tests" / "typed_use.py"))


def test_help_is_a_guide(capsys):
    assert mx.__doc__ is not None
    for name in PUBLIC:
        assert name in mx.__doc__, f"help(mx) does not mention {name}"
    (first_fit,) = re.findall(r"\n\n((?: {4}.*\n|\n)+)", mx.__doc__)
    exec(textwrap.dedent(first_fit), {})
    printed = capsys.readouterr().out
    assert "Valid Minimum" in printed
    assert "signal" in printed
