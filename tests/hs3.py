"""HS3 documents for tests, built from pieces."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "hs3"


def read(name):
    return json.loads((FOLDER / name).read_text())


def axis(name, low, high, **more):
    return {"name": name, "min": low, "max": high, **more}


def unbinned(name, x, *axes, weights=None):
    rows = [[v] if not isinstance(v, list) else v for v in x]
    return {"name": name, "type": "unbinned", "entries": rows, "axes": list(axes)} | (
        {} if weights is None else {"weights": weights}
    )


def binned(name, contents, low, high, variable="x"):
    return {
        "name": name,
        "type": "binned",
        "contents": contents,
        "axes": [axis(variable, low, high, nbins=len(contents))],
    }


def gaussian(name, x="x", mean="mu", sigma="sigma"):
    return {"name": name, "type": "gaussian_dist", "x": x, "mean": mean, "sigma": sigma}


def document(distributions, data, values, *, ranges=None, const=(), pairs=None, poi=(), aux=(), functions=()):
    """`values`: of the parameters by name. `ranges`: by name. `pairs`: of names, or all in their order."""
    if pairs is None:
        pairs = [(distributions[0]["name"], data[0]["name"])]
    likelihood = {"name": "all", "distributions": [d for d, _ in pairs], "data": [x for _, x in pairs]}
    point = [{"name": n, "value": v} | ({"const": True} if n in const else {}) for n, v in values.items()]
    axes = [axis(n, *r) for n, r in (ranges or {}).items()]
    return {
        "metadata": {"hs3_version": "0.2"},
        "distributions": list(distributions),
        "functions": list(functions),
        "data": list(data),
        "likelihoods": [likelihood | ({"aux_distributions": list(aux)} if aux else {})],
        "analyses": [{"name": "fit", "likelihood": "all", "parameters_of_interest": list(poi)}],
        "domains": [{"name": "default_domain", "type": "product_domain", "axes": axes}],
        "parameter_points": [{"name": "default_values", "parameters": point}],
    }
