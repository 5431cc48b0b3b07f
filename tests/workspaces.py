"""Small pyhf workspaces, and pyhf's own likelihood of them to compare with."""

import copy
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

DATA = Path(__file__).parent / "data"
LUMI = {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "bounds": [[0.9, 1.1]], "inits": [1.0]}


def read(path):
    return json.loads((DATA / path).read_text())


def sbottom():
    return read("sbottom/BkgOnly.json"), read("sbottom/patch.sbottom_1300_205_60.json")


def workspace(channels, parameters=(), poi="mu"):
    """From `{channel: {sample: (data, modifiers)}}`; the observations are 3 % above what is nominal."""
    return {
        "channels": [
            {
                "name": name,
                "samples": [{"name": s, "data": list(d), "modifiers": list(m)} for s, (d, m) in samples.items()],
            }
            for name, samples in channels.items()
        ],
        "observations": [
            {"name": name, "data": [round(1.03 * x) for x in np.sum([d for d, _ in samples.values()], axis=0)]}
            for name, samples in channels.items()
        ],
        "measurements": [{"name": "main", "config": {"poi": poi, "parameters": list(parameters)}}],
        "version": "1.0.0",
    }


def modifier(kind, name, data=None):
    return {"type": kind, "name": name, "data": data}


MU = modifier("normfactor", "mu")
UP_DOWN = {"hi_data": [55.0, 50.0, 38.0], "lo_data": [46.0, 51.0, 41.0]}


def one(extra, parameters=(), background=(50.0, 52.0, 40.0)):
    """A signal and a background that the modifiers `extra` move."""
    return workspace({"SR": {"signal": ([5.0, 10.0, 3.0], [MU]), "background": (background, extra)}}, parameters)


NORM = modifier("normsys", "norm", {"hi": 1.12, "lo": 0.91})
SHAPE = modifier("histosys", "shape", UP_DOWN)
FOUR = modifier(
    "histosys", "shape", {"hi_data": [95.0, 72.0, 29.0, 11.0], "lo_data": [88.0, 69.0, 33.0, 9.0]}
)  # of four bins
# name: workspace, interpolation
SMALL = {
    "normfactor": (one([modifier("normfactor", "k")]), None),
    "normsys code 1": (one([NORM]), {"normsys": "code1"}),
    "normsys code 4": (one([NORM]), {"normsys": "code4"}),
    "histosys code 0": (one([SHAPE]), {"histosys": "code0"}),
    "histosys code 2": (one([SHAPE]), {"histosys": "code2"}),
    "histosys code 4p": (one([SHAPE]), {"histosys": "code4p"}),
    "norm and shape of one": (one([modifier("normsys", "shape", {"hi": 1.1, "lo": 0.95}), SHAPE]), None),
    "shapesys": (one([modifier("shapesys", "rate", [3.0, 7.0, 2.0])]), None),
    "shapesys without error or events": (
        one([modifier("shapesys", "rate", [3.0, 0.0, 2.0])], background=(50.0, 52.0, 0.0)),
        None,
    ),
    "shapefactor": (
        workspace(
            {
                "SR": {"signal": ([5.0, 10.0], [MU]), "background": ([50.0, 52.0], [modifier("shapefactor", "free")])},
                "CR": {"background": ([50.0, 52.0, 40.0], [modifier("shapefactor", "free")])},
            }
        ),
        None,
    ),
    "staterror": (one([modifier("staterror", "mc", [3.0, 7.0, 2.0])]), None),
    "staterror without error or events": (
        one([modifier("staterror", "mc", [3.0, 0.0, 2.0])], background=(50.0, 52.0, 0.0)),
        None,
    ),
    "lumi": (one([modifier("lumi", "lumi")], [LUMI]), None),
    "a sample twice as large as its error": (one([modifier("shapesys", "rate", [25.0, 26.0, 20.0])]), None),
    "configured": (
        one(
            [NORM, modifier("shapesys", "rate", [3.0, 7.0, 2.0])],
            [
                {"name": "mu", "inits": [0.5], "bounds": [[-2.0, 4.0]]},
                {"name": "norm", "inits": [0.3], "auxdata": [0.2], "bounds": [[-3.0, 3.0]]},
                {"name": "rate", "fixed": True},
            ],
        ),
        None,
    ),
    "channels of different lengths": (
        workspace(
            {
                "SR": {
                    "signal": ([5.0, 10.0], [MU, modifier("lumi", "lumi")]),
                    "top": ([50.0, 40.0], [NORM, modifier("staterror", "mc_SR", [2.0, 3.0])]),
                    "fakes": ([4.0, 0.0], [modifier("staterror", "mc_SR", [1.0, 0.0])]),
                },
                "CR": {
                    "top": (
                        [90.0, 70.0, 30.0, 10.0],
                        [
                            NORM,
                            modifier("normfactor", "k"),
                            FOUR,
                        ],
                    ),
                    "fakes": ([1.0, 2.0, 3.0, 4.0], [modifier("shapesys", "fake_rate", [0.5, 1.0, 1.0, 0.0])]),
                },
                "VR": {"top": ([30.0, 20.0], [modifier("normfactor", "k"), modifier("shapefactor", "free")])},
                "WR": {"top": ([33.0, 21.0], [modifier("shapefactor", "free")])},
            },
            [LUMI],
        ),
        None,
    ),
}


def peer(spec, interpolation=None):
    """pyhf's model, and its minus log of the likelihood and the gradient of it, by JAX."""
    import pyhf

    pyhf.set_backend("jax", precision="64b")
    found = pyhf.Workspace(copy.deepcopy(spec))
    settings = {"normsys": "code4", "histosys": "code4p"} | dict(interpolation or {})
    model = found.model(modifier_settings={k: {"interpcode": v} for k, v in settings.items()})
    data = jnp.asarray(found.data(model))
    nll = lambda x: -model.logpdf(x, data)[0]  # noqa: E731
    return model, jax.jit(nll), jax.jit(jax.grad(nll))


def tree(model, params, x):
    """pyhf's vector of parameters as the tree that migrax takes."""
    return {name: x[model.config.par_slice(name)].reshape(params[name].value.shape) for name in model.config.par_order}


def points(model, n, seed=0):
    """Random points within the bounds, those of alphas up to some three standard deviations off."""
    rng = np.random.default_rng(seed)
    start, bounds = np.array(model.config.suggested_init()), np.array(model.config.suggested_bounds())
    scale = np.where(bounds[:, 0] < 0, 1.2, 0.2)
    return np.clip(start + scale * rng.normal(size=(n, start.size)), bounds[:, 0] + 1e-3, bounds[:, 1] - 1e-3)
