"""cabinetry's example workspace (tests/data/cabinetry) as a model written by hand: one channel, two samples.

Interpolations as pyhf's defaults: code 4 for normalisations (a polynomial inside ±1, exponential outside), code 4p for
histograms (a polynomial inside, linear outside).
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import migrax as mx

FOLDER = Path(__file__).parent / "data" / "cabinetry"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
_CHANNEL = json.loads((FOLDER / "workspace.json").read_text())
_SAMPLES = {sample["name"]: sample for sample in _CHANNEL["channels"][0]["samples"]}
COUNTS = jnp.asarray(_CHANNEL["observations"][0]["data"])
# in cabinetry's order; the gammas come last there, too
NAMES = ("WeightBasedModeling", "Modeling", "Signal_norm", "Luminosity")
CONSTRAINED = NAMES[:2] + NAMES[3:]


def _modifier(sample, name, kind):
    return next(m["data"] for m in _SAMPLES[sample]["modifiers"] if (m["name"], m["type"]) == (name, kind))


SIGNAL, BACKGROUND = (jnp.asarray(_SAMPLES[name]["data"]) for name in ("Signal", "Background"))
_ERRORS = [np.asarray(_modifier(s, "staterror_Signal_region", "staterror")) for s in ("Signal", "Background")]
GAMMA_ERRORS = jnp.asarray(np.hypot(*_ERRORS) / np.asarray(SIGNAL + BACKGROUND))
PREFIT = {name: (0.0, 1.0) for name in CONSTRAINED} | {"gamma": (1.0, GAMMA_ERRORS)}


def _coefficients(high, low):
    """Of the polynomial 1 + sum a_i x^i that joins high^x and low^-x at ±1 with two derivatives."""
    power = np.arange(1, 7)
    rows, right = [], []
    for x, base in ((1.0, high), (-1.0, low)):
        slope = np.sign(x) * np.log(base)
        rows += [x**power, power * x ** (power - 1), power * (power - 1) * x ** (power - 2.0)]
        right += [base - 1, slope * base, slope**2 * base]
    return jnp.asarray(np.linalg.solve(np.array(rows), np.array(right)))


def norm(sample, name):
    data = _modifier(sample, name, "normsys")
    high, low, a = data["hi"], data["lo"], _coefficients(data["hi"], data["lo"])

    def factor(x):
        inside = 1 + jnp.sum(a * jnp.clip(x, -1, 1) ** jnp.arange(1, 7))
        return jnp.where(x > 1, high**x, jnp.where(x < -1, low ** (-x), inside))

    return factor


def shape(sample, name):
    data = _modifier(sample, name, "histosys")
    nominal = jnp.asarray(_SAMPLES[sample]["data"])
    up, down = jnp.asarray(data["hi_data"]) - nominal, nominal - jnp.asarray(data["lo_data"])

    def shift(x):
        inside = x * (0.5 * (up + down) + x * 0.0625 * (up - down) * (15 + x**2 * (3 * x**2 - 10)))
        return jnp.where(x > 1, up * x, jnp.where(x < -1, down * x, inside))

    return shift


_LUMINOSITY = norm("Signal", "Luminosity")
_NORMS = {name: norm("Background", name) for name in NAMES[:2]}
_SHAPES = {name: shape("Background", name) for name in NAMES[:2]}


def yields(p):
    """The expected counts of the signal and of the background."""
    background = BACKGROUND + sum(_SHAPES[name](p[name]) for name in NAMES[:2])
    for name in NAMES[:2]:
        background = background * _NORMS[name](p[name])
    common = _LUMINOSITY(p["Luminosity"]) * p["gamma"]
    return SIGNAL * p["Signal_norm"] * common, background * common


def nll(p, counts):
    """Minus log L, with pyhf's constants: Poisson counts, normal constraints."""
    signal, background = yields(p)
    main = mx.PoissonNLL(lambda mu: mu)(signal + background, counts)
    pulls = jnp.concatenate([jnp.stack([p[name] for name in CONSTRAINED]), (p["gamma"] - 1) / GAMMA_ERRORS])
    return main + 0.5 * jnp.sum(pulls**2)


START = {name: mx.Parameter(0.0) for name in CONSTRAINED} | {
    "Signal_norm": mx.Parameter(1.0, lower=0.0, upper=10.0),
    "gamma": mx.Parameter(jnp.ones(4), lower=1e-10, upper=10.0),
}


def joint():
    """The same as likelihood, parameters and data, whose constraints have global observables, as Asimov data need."""
    parts = {"counts": mx.PoissonNLL(lambda p: sum(yields(p)))}
    parts |= {name: mx.NormalConstraint(name, 1.0) for name in CONSTRAINED}
    parts |= {"gamma": mx.NormalConstraint("gamma", GAMMA_ERRORS)}
    data = {"counts": COUNTS, "gamma": jnp.ones(4)} | {name: jnp.asarray(0.0) for name in CONSTRAINED}
    return mx.Joint(parts), START, data
