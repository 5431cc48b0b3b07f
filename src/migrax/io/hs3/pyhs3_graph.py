"""The graph that pyhs3 makes of an HS3 document, as a likelihood."""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Scalar

from ..._parameters.parameter import Parameter
from ..._parameters.resolve import resolve
from ..._util.typing import PyTree
from ..._util.unavailable import Unavailable
from .._node import Node, shown
from .document import Analysis, Document
from .parameters import parameter

_NATIVE = 'engine="native" reads the document as a likelihood with other data, Asimov data and toys'


class PyHS3(eqx.Module):
    """The likelihood of an HS3 document, as pyhs3 computes it: `mx.io.from_hs3(..., engine="pyhs3")`.

    Its data are the events of unbinned data, by variable. Counts in bins, weights of events and global observables are
    constants of pyhs3's graph, so that it has no toys and no Asimov data.

    **Attributes:**

    - `variables`: the names of the arrays of events, which are the data; none if all data are counts.
    - `parameters_of_interest`: their names. `poi`: the first, or `None`.
    - `analysis`: the name of the analysis, or of the likelihood.
    """

    graph: Callable[..., Any] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    variables: tuple[str, ...] = eqx.field(static=True)
    parameters_of_interest: tuple[str, ...] = eqx.field(static=True)
    analysis: str = eqx.field(static=True)

    @property
    def poi(self) -> str | None:
        return self.parameters_of_interest[0] if self.parameters_of_interest else None

    def __call__(self, params: PyTree, data: Mapping[str, Array]) -> Scalar:
        """Minus the log of the likelihood. **Raises:** `ValueError` for data that are not those of its variables."""
        values, data = resolve(params), {} if data is None else data
        if not isinstance(data, Mapping) or set(data) != set(self.variables):
            given = ", ".join(map(repr, data)) if isinstance(data, Mapping) else type(data).__name__
            wanted = ", ".join(map(repr, self.variables))
            raise ValueError(
                f'a likelihood of engine="pyhs3" takes the events of {wanted or "no variable"} as data, got '
                f"{given or 'nothing'}: counts are constants of pyhs3's graph. {_NATIVE}"
            )
        inputs = {name: jnp.asarray(data[name] if name in data else values[name], float) for name in self.inputs}
        (value,) = self.graph(**inputs)
        return jnp.squeeze(value)

    def expected_data(self, params: PyTree, data: Any = None) -> NoReturn:
        """**Raises:** `TypeError`, as pyhs3's graph has no Asimov data."""
        raise Unavailable(f"pyhs3's graph has no Asimov data, which asymptotic tests and limits need. {_NATIVE}")

    def sample(self, params: PyTree, key: Array, data: Any = None) -> NoReturn:
        """**Raises:** `TypeError`, as pyhs3's graph draws no toys."""
        raise Unavailable(f"pyhs3's graph draws no toys. {_NATIVE}")

    def __repr__(self) -> str:
        return f"PyHS3({self.analysis!r}; poi={self.poi!r})"


def read_by_pyhs3(document: Document, analysis: Analysis) -> tuple[PyHS3, dict[str, Parameter], dict[str, Array]]:
    """Read a document by pyhs3. **Raises:** `ImportError` without it; `ValueError` for what it cannot read or omits."""
    try:
        import pyhs3
        from pyhs3.parameter_points import ParameterPoint, ParameterSet
    except ImportError:
        raise ImportError('engine="pyhs3" needs pyhs3: pip install "migrax[hs3]"') from None
    _check_pairs(document, analysis)
    ranges, points = document.ranges(analysis), document.values(analysis)
    try:
        workspace = pyhs3.Workspace(**_with_ranges(document, ranges))
    except Exception as error:
        raise ValueError(f"pyhs3 cannot read this document: {error}") from error
    target = (workspace.analyses or {}).get(analysis.name) or (workspace.likelihoods or {}).get(analysis.name)
    likelihood: Any = getattr(target, "likelihood", target)
    data = {name: jnp.asarray(x) for name, x in likelihood.data_arrays().items()}
    parameters = [
        ParameterPoint(name=name, value=point.value, const=point.const)
        for name, point in points.items()
        if name not in data
    ]
    try:
        model = workspace.model(
            target, parameter_set=ParameterSet(name="migrax", parameters=parameters), progress=False
        )
        with warnings.catch_warnings():  # a limitation that is documented
            warnings.filterwarnings("ignore", ".*weights are baked as pt.constant")
            graph = pyhs3.jaxify(-model.log_prob)
    except Exception as error:
        raise ValueError(f"pyhs3 cannot make a model of this document: {type(error).__name__}: {error}") from error
    names = sorted(set(graph.input_names) - set(data))
    params = {name: parameter(name, points, ranges, shown(analysis.name)) for name in names}
    pois = tuple(name for name in analysis.parameters_of_interest if name in params)
    events = {name: x for name, x in data.items() if name in graph.input_names}
    nll = PyHS3(graph.fn, graph.input_names, tuple(events), pois, analysis.name)
    value = nll(params, events)
    if not np.isfinite(value):
        raise ValueError(
            f"minus the log of the likelihood by pyhs3 is {value:g} at the start: it multiplies the probabilities of "
            "constraints, which underflows where they are many (a newer pytensor adds their logarithms, as "
            'engine="native" does), unless the model is impossible there'
        )
    return nll, params, events


def _check_pairs(document: Document, analysis: Analysis) -> None:
    """**Raises:** `ValueError` for parts that pyhs3 would silently leave out of the likelihood."""
    likelihood = analysis.likelihood
    for distribution, data in zip(likelihood["distributions"].some(), likelihood["data"].items(), strict=False):
        node, observed = document.distributions.get(distribution.text()), document.data.get(str(data.value))
        if node is None or observed is None or observed["type"].value == "unbinned":
            continue  # reported elsewhere, or supported
        if observed["type"].value != "binned" or node["type"].value != "histfactory_dist":
            raise distribution.error(
                f"pyhs3 leaves {shown(distribution.value)} out of the likelihood, as its data are "
                f"{observed['type'].value}: "
                'engine="native" does not'
            )


def _with_ranges(document: Document, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """The document with the ranges of variables at the axes of data, too, where pyhs3 needs them and ROOT has none."""
    copied = copy.deepcopy(_plain(document.root))
    for data in copied.get("data") or []:
        for axis in data.get("axes") or []:
            low, high = ranges.get(axis["name"], (-np.inf, np.inf))
            if "edges" not in axis:
                axis.setdefault("min", low)
                axis.setdefault("max", high)
    return copied


def _plain(root: Node) -> dict[str, Any]:
    return dict(root.value)
