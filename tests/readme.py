"""Runs the README's blocks in one session: they print what the README shows, and the derivative is that of refits.

`test_examples.py` runs it as a script.
"""

import contextlib
import io
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import migrax as mx

# a block and what it prints, which stands right below it
PRINTED = re.compile(r"^```python\n(.*?)^```\n+(?:```\n(.*?)^```)?", re.DOTALL | re.MULTILINE)


def check():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
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


if __name__ == "__main__":
    check()
