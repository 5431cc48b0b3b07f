"""The 27 nonlinear regression problems of the NIST StRD, as tests and benchmarks use them.

`PROBLEMS["Misra1a"].model(b, x)` is written with `jax.numpy`, so it needs float64 (`jax.enable_x64(True)`, or the
default of the tests) to reach the certified digits. The arrays are NumPy's, in float64, and read-only.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

DATA = Path(__file__).parent / "data" / "nist"

Model = Callable[[ArrayLike, ArrayLike], Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """One problem: minimise sum((y - model(b, x))**2) over b.

    **Arguments**:

    - `name`: NIST's name of the data set.
    - `model`: `model(b, x) -> (n,)`, the header's formula; `b` has shape `(k,)`.
    - `x`: the predictor, `(n,)`; for Nelson, which has two, `(n, 2)`.
    - `y`: the response, `(n,)`; for Nelson its logarithm, which is what is fitted.
    - `start1`, `start2`: the far and the near start, `(k,)`.
    - `certified`: the certified parameters, `(k,)`, printed to 11 digits.
    - `stderr`: their standard errors, `(k,)`: the square roots of the diagonal of s² (J'J)⁻¹, with s² = `rss / dof`.
    - `rss`: the residual sum of squares at the minimum.
    - `dof`: observations less parameters.
    """

    name: str
    model: Model
    x: Float[np.ndarray, "n"] | Float[np.ndarray, "n 2"]
    y: Float[np.ndarray, "n"]
    start1: Float[np.ndarray, "k"]
    start2: Float[np.ndarray, "k"]
    certified: Float[np.ndarray, "k"]
    stderr: Float[np.ndarray, "k"]
    rss: float
    dof: int


def _bennett(b, x):
    return b[0] * (b[1] + x) ** (-1 / b[2])


def _saturation(b, x):
    return b[0] * (1 - jnp.exp(-b[1] * x))


def _chwirut(b, x):
    return jnp.exp(-b[0] * x) / (b[1] + b[2] * x)


def _danwood(b, x):
    return b[0] * x ** b[1]


def _eckerle(b, x):
    return (b[0] / b[1]) * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


def _enso(b, x):
    def wave(period, cosine, sine):
        angle = 2 * jnp.pi * x / period
        return cosine * jnp.cos(angle) + sine * jnp.sin(angle)

    return b[0] + wave(12.0, b[1], b[2]) + wave(b[3], b[4], b[5]) + wave(b[6], b[7], b[8])


def _gauss(b, x):
    baseline = b[0] * jnp.exp(-b[1] * x)
    return baseline + b[2] * jnp.exp(-(((x - b[3]) / b[4]) ** 2)) + b[5] * jnp.exp(-(((x - b[6]) / b[7]) ** 2))


def _cubic_over_cubic(b, x):
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def _kirby(b, x):
    return (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2)


def _lanczos(b, x):
    return b[0] * jnp.exp(-b[1] * x) + b[2] * jnp.exp(-b[3] * x) + b[4] * jnp.exp(-b[5] * x)


def _mgh09(b, x):
    return b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


def _mgh10(b, x):
    return b[0] * jnp.exp(b[1] / (x + b[2]))


def _mgh17(b, x):
    return b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4])


def _misra1b(b, x):
    return b[0] * (1 - (1 + b[1] * x / 2) ** (-2))


def _misra1c(b, x):
    return b[0] * (1 - (1 + 2 * b[1] * x) ** (-0.5))


def _misra1d(b, x):
    return b[0] * b[1] * x / (1 + b[1] * x)


def _nelson(b, x):
    return b[0] - b[1] * x[:, 0] * jnp.exp(-b[2] * x[:, 1])


def _rat42(b, x):
    return b[0] / (1 + jnp.exp(b[1] - b[2] * x))


def _rat43(b, x):
    return b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3])


def _roszman(b, x):
    return b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / jnp.pi


_MODELS: dict[str, Model] = {
    "Bennett5": _bennett,
    "BoxBOD": _saturation,
    "Chwirut1": _chwirut,
    "Chwirut2": _chwirut,
    "DanWood": _danwood,
    "ENSO": _enso,
    "Eckerle4": _eckerle,
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "Gauss3": _gauss,
    "Hahn1": _cubic_over_cubic,
    "Kirby2": _kirby,
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Lanczos3": _lanczos,
    "MGH09": _mgh09,
    "MGH10": _mgh10,
    "MGH17": _mgh17,
    "Misra1a": _saturation,
    "Misra1b": _misra1b,
    "Misra1c": _misra1c,
    "Misra1d": _misra1d,
    "Nelson": _nelson,
    "Rat42": _rat42,
    "Rat43": _rat43,
    "Roszman1": _roszman,
    "Thurber": _cubic_over_cubic,
}


def header(name: str) -> str:
    """The text of a problem's file, as NIST gives it."""
    return (DATA / f"{name}.dat").read_text(encoding="ascii")


def _table(name: str) -> Float[np.ndarray, "n columns"]:
    """The data lines of a file: the response first, then the predictors."""
    text = header(name)
    lines = re.search(r"Data\s+\(lines\s+(\d+)\s+to\s+(\d+)\)", text)
    if lines is None:
        raise ValueError(f"{name}.dat does not say on which lines its data stand")
    first, last = (int(number) for number in lines.groups())
    return np.loadtxt(text.splitlines()[first - 1 : last], dtype=np.float64, ndmin=2)


def _frozen(values: ArrayLike) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


def _load(name: str, answers: dict) -> Problem:
    table = _table(name)
    x, y = table[:, 1:], table[:, 0]
    return Problem(
        name=name,
        model=_MODELS[name],
        x=_frozen(x if x.shape[1] > 1 else x[:, 0]),
        y=_frozen(np.log(y) if name == "Nelson" else y),
        start1=_frozen(answers["start1"]),
        start2=_frozen(answers["start2"]),
        certified=_frozen(answers["cert"]),
        stderr=_frozen(answers["cert_stderr"]),
        rss=float(answers["rss"]),
        dof=len(y) - len(answers["cert"]),  # not the file's: Rat43's header says 9 where 11 is right
    )


_ANSWERS = json.loads((DATA / "certified.json").read_text(encoding="ascii"))

PROBLEMS: dict[str, Problem] = {name: _load(name, _ANSWERS[name]) for name in _MODELS}
