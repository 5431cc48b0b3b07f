"""cabinetry's example workspace (tests/data/cabinetry) as a model: one channel, two samples."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import migrax as mx

FOLDER = Path(__file__).parent / "data" / "cabinetry"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
NLL, START, DATA = mx.io.from_pyhf(FOLDER / "workspace.json")
GAMMA = "staterror_Signal_region"
CONSTRAINED = ("WeightBasedModeling", "Modeling", "Luminosity")
GAMMA_ERRORS = np.array([error for name, _, error in NLL.prefit(START, DATA) if name.startswith(GAMMA)])


def total(p):
    """The expected counts of both samples."""
    return NLL.prediction(p)["main"]["Signal_region"]


PREFIT = {name: (0.0, 1.0) for name in CONSTRAINED} | {GAMMA: (1.0, jnp.asarray(GAMMA_ERRORS))}
