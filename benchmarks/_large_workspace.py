"""A workspace of many modifiers in pyhf's format: 10 channels of 300 bins, a signal and 4 backgrounds in each."""

from typing import Any

import numpy as np

CHANNELS, BINS, BACKGROUNDS = 10, 300, 4
TOUCHED = 3  # samples of channels that a modifier acts on
SHAPES = 0.3  # of the modifiers move shapes, in 60 neighbouring bins


def workspace(n: int) -> dict[str, Any]:
    """With `n` modifiers, from a seed."""
    rng = np.random.default_rng(0)
    channels = [_channel(c, rng) for c in range(CHANNELS)]
    for k in range(n):
        name, is_shape = f"np{k:04d}", rng.uniform() < SHAPES
        for _ in range(TOUCHED):
            sample = channels[rng.integers(CHANNELS)]["samples"][rng.integers(1, BACKGROUNDS + 1)]
            if all(modifier["name"] != name for modifier in sample["modifiers"]):
                sample["modifiers"].append(_modifier(name, np.array(sample["data"]), is_shape, rng))
    observations = [
        {"name": c["name"], "data": [float(x) for x in rng.poisson(sum(np.array(s["data"]) for s in c["samples"]))]}
        for c in channels
    ]
    measurements = [{"name": "m", "config": {"poi": "mu", "parameters": []}}]
    return {"channels": channels, "observations": observations, "measurements": measurements, "version": "1.0.0"}


def _channel(number: int, rng: np.random.Generator) -> dict[str, Any]:
    mu = {"type": "normfactor", "name": "mu", "data": None}
    signal = {"name": "signal", "data": list(0.1 * rng.uniform(500, 1000, BINS)), "modifiers": [mu]}
    backgrounds = [
        {"name": f"bkg{s}", "data": list(rng.uniform(200, 2000, BINS)), "modifiers": []} for s in range(BACKGROUNDS)
    ]
    return {"name": f"ch{number}", "samples": [signal, *backgrounds]}


def _modifier(name: str, yields: np.ndarray, is_shape: bool, rng: np.random.Generator) -> dict[str, Any]:
    if not is_shape:
        size = 0.04 * rng.normal()
        return {"type": "normsys", "name": name, "data": {"hi": 1 + size, "lo": 1 - 0.9 * size}}
    first, shift = rng.integers(0, BINS - 60), np.zeros(BINS)
    shift[first : first + 60] = 0.04 * rng.normal() * np.sin(np.linspace(0, np.pi, 60))
    data = {"hi_data": list(yields * (1 + shift)), "lo_data": list(yields * (1 - 0.9 * shift))}
    return {"type": "histosys", "name": name, "data": data}
