"""Every example runs: the README's blocks in one session, and those of the docstrings."""

import contextlib
import inspect
import io
import re
import runpy
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
# a block and what it prints, which stands right below it
PRINTED = re.compile(r"^```python\n(.*?)^```\n+(?:```\n(.*?)^```)?", re.DOTALL | re.MULTILINE)


def blocks(text):
    return BLOCK.findall(inspect.cleandoc(text))


def test_readme():
    readme = (ROOT / "README.md").read_text()
    namespace: dict = {}
    code = PRINTED.findall(readme)
    assert len(code) >= 4
    for block, shown in code:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(compile(block, "README.md", "exec"), namespace)
        # at 1e-14 the EDM is rounding, which decides on one gradient
        lines, expected = (
            [line for line in text.splitlines() if "EDM =" not in line and "Ngrad =" not in line]
            for text in (told.getvalue(), shown)
        )
        assert lines == expected, "the README's output is not what is printed"
    assert bool(jnp.all(namespace["fits"].valid))
    counts, edges, result = (namespace[name] for name in ("counts", "edges", "result"))
    slope, counts = namespace["slope"], jnp.asarray(counts, float)
    by_hand = (0.5 * (edges[1:] + edges[:-1]) - result["mu"].value) / counts.sum()  # of the mean of a whole Gaussian,
    np.testing.assert_allclose(slope, by_hand, atol=0.01 * np.abs(by_hand).max())  # which ends at the last events here
    mean = lambda n: mx.fit(namespace["nll"], namespace["start"], n)["mu"].value  # noqa: E731
    for i in (int(jnp.argmin(counts)), 300):  # the first has no event, and cannot have fewer
        once, twice = (mean(counts.at[i].add(step)) for step in (0.5, 1.0))
        np.testing.assert_allclose(slope[i], 4 * once - twice - 3 * mean(counts), rtol=1e-6)


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
