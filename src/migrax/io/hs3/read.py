"""`from_hs3`: a document of the HEP Statistics Serialization Standard as a likelihood, read without ROOT and pyhs3."""

import os
from collections.abc import Mapping
from typing import Any, Literal, overload

from ..._parameters.parameter import Parameter
from .._node import Node, load
from ..histfactory.interpolation import codes
from .assemble import Assembly
from .document import read_document
from .likelihood import HS3
from .pyhs3_graph import PyHS3, read_by_pyhs3

_Document = str | os.PathLike[str] | Mapping[str, Any]


@overload
def from_hs3(
    document: _Document,
    *,
    analysis: str | None = None,
    point: str | None = None,
    interpolation: Mapping[str, Any] | None = None,
    shapesys: str | None = None,
    bins: str | None = None,
    engine: Literal["native"] = "native",
) -> tuple[HS3, dict[str, Parameter], dict[str, Any]]: ...


@overload
def from_hs3(
    document: _Document, *, analysis: str | None = None, point: str | None = None, engine: Literal["pyhs3"]
) -> tuple[PyHS3, dict[str, Parameter], dict[str, Any]]: ...


def from_hs3(
    document: _Document,
    *,
    analysis: str | None = None,
    point: str | None = None,
    interpolation: Mapping[str, Any] | None = None,
    shapesys: str | None = None,
    bins: str | None = None,
    engine: Literal["native", "pyhs3"] = "native",
) -> tuple[HS3 | PyHS3, dict[str, Parameter], dict[str, Any]]:
    """Reads a document of the HEP Statistics Serialization Standard (HS3) as a likelihood of migrax.

    It reads versions 0.1 to 0.3 (https://hep-statistics-serialization-standard.github.io), as RooFit, Combine, xRooFit
    and pyhs3 write them.

    ```python
    nll, params, data = mx.io.from_hs3("document.json")
    result = mx.fit(nll, params, data)
    mx.upper_limit(nll, params, data, nll.poi)
    ```

    Distributions: gaussian_dist, exponential_dist, lognormal_dist, poisson_dist, uniform_dist, argus_dist,
    crystalball_dist, bernstein_poly_dist, chebychev_dist, polynomial_dist, generic_dist, density_function_dist,
    log_density_function_dist, mixture_dist, product_dist, rate_extended_dist, rate_density_dist,
    bincounts_extended_dist, histfactory_dist. Functions: sum, product, polynomial, generic_function; expressions are
    read by a parser and never run as code. An unsupported object that the analysis uses raises an error with its name,
    and so does a key that HS3 does not define, because it may be misspelt.
    Densities are normalised on the range of their variable: that of the axis of the data, or of a domain.

    A distribution that does not depend on a variable of the data, as a factor of a product or in `aux_distributions`,
    is a constraint: it counts once, and its global observables are data.

    **Arguments:**

    - `document`: a path to a JSON file, or what was read from one.
    - `analysis`: the name of an analysis, or of a likelihood. Default: the first analysis that is not of Asimov data.
    - `point`: the name of the parameter point to start at. Default: the one that the analysis starts at, or
        "default_values", or the first. Values that are missing in the given point are taken from the default one.
    - `interpolation`: that of HistFactory's normsys and histosys, as for `mx.io.from_pyhf`, where the document does not
        specify it; default: `{"normsys": "code4", "histosys": "code4p"}`, as in ROOT. Documents specify it for a
        modifier (`"interpolation"`) or a channel (`"default_interpolation"`): `{"type": "mult", "in": "poly6", "out":
        "exp"}`; a factor ("mult") may be poly1, poly2 with poly1, poly6 with poly1, exp, or poly6 with exp; a
        difference ("add") one of the first three. Older documents have names or ROOT's integers.
    - `shapesys`: whether the errors ("vals") of HistFactory's shapesys are `"relative"`, as ROOT writes them, or
        `"absolute"`, as pyhs3 does. Default: according to the program that wrote the document.
    - `bins`: for binned data of a distribution other than HistFactory's, whether the probability of a bin is the
        density at its `"centres"`, as in RooFit, or the integral: `"integrals"`, which is right for wide bins, too.
        Default: `"centres"`.
    - `engine`: `"native"`, or `"pyhs3"`: the document is then read by pyhs3 (`pip install "migrax[hs3]"`), and the
        likelihood is its JAX graph, for distributions that only pyhs3 supports, and for comparison. It has no toys and
        no Asimov data, because counts and global observables are constants of the graph. Unlike ROOT and the native
        engine, pyhs3 0.4 does not normalise a product of densities of one variable again. The options `interpolation`,
        `shapesys` and `bins` do not apply.

    **Returns:** `(likelihood, params, data)`: an `mx.io.HS3`, a sum of parts; a dictionary of `mx.Parameter`, those
    that are constant in the document fixed; and a dictionary of the data of each part.

    **Raises:** `ValueError` for an invalid or unsupported document, with the place in the JSON and the reason;
    `ImportError` without the engine.

    **Warns** of parameters with a domain but no value: they start at their default, or in the middle of the domain.
    """
    if engine not in ("native", "pyhs3"):
        raise ValueError(f'engine must be "native" or "pyhs3", got {engine!r}')
    if shapesys not in (None, "relative", "absolute"):
        raise ValueError(f'shapesys must be "relative" or "absolute", got {shapesys!r}')
    if bins not in (None, "centres", "integrals"):
        raise ValueError(f'bins must be "centres" or "integrals", got {bins!r}')
    read = read_document(Node(load(document, "document"), ""))
    if engine == "pyhs3":
        for name, value in (("interpolation", interpolation), ("shapesys", shapesys), ("bins", bins)):
            if value is not None:
                raise ValueError(f'{name} is for engine="native": pyhs3 has its own way')
        return read_by_pyhs3(read, read.analysis(analysis, point))
    chosen = codes(interpolation)
    relative = read.from_root if shapesys is None else shapesys == "relative"
    return Assembly(read, read.analysis(analysis, point), relative, chosen, bins != "integrals").built()
