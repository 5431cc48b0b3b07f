"""The distributions of HS3, and their counterparts in `mx.distributions`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ... import distributions as mxd
from .._node import Node, shown
from .expression import Expression
from .graph import Graph, Operand, Values, expression_of, operand, polynomial
from .keys import check_keys

Ranges = Mapping[str, tuple[float, float]]
Key = str | tuple[str, ...]  # the first of these that is present

_MAX_DEPTH = 50  # nested distributions


class Kind(NamedTuple):
    """The definition of a distribution.

    - `x`: the key of its observable.
    - `keys`: those of its parameters, each a number or a name; `lists`: those of lists of these.
    - `make`: `make(values, low, high)`, the distribution.
    - `finite`: whether its observable needs a range.
    """

    x: str
    keys: tuple[Key, ...]
    make: Callable[[dict[str, Any], float, float], Any]
    lists: tuple[str, ...] = ()
    finite: bool = False

    @property
    def all_keys(self) -> tuple[str, ...]:
        """All keys."""
        keys = [(key,) if isinstance(key, str) else key for key in self.keys]
        return (self.x, *(option for options in keys for option in options), *self.lists)


def _truncated(d: Any, low: float, high: float) -> Any:
    return d if low == -np.inf and high == np.inf else mxd.Truncated(d, low, high)


def _crystal_ball(v: dict[str, Any], low: float, high: float) -> Any:
    if "alpha" in v and "n" in v and "sigma" in v:  # as ROOT writes RooCBShape
        return mxd.CrystalBall(v["m0"], v["sigma"], v["alpha"], v["n"], low, high)
    keys = [(f"{name}_{side}", name) for name in ("sigma", "alpha", "n") for side in "LR"]
    s_l, s_r, a_l, a_r, n_l, n_r = (v[side_key if side_key in v else key] for side_key, key in keys)
    return mxd.AsymmetricCrystalBall(v["m0"], s_l, s_r, a_l, n_l, a_r, n_r, low, high)


def _polynomial(v: dict[str, Any], low: float, high: float) -> Any:
    coefficients = v["coefficients"]
    nodes = max(8, 2 * len(coefficients))  # makes its integral exact, also by the rules that check it
    return mxd.Normalized(lambda x: jnp.log(polynomial(coefficients, x)), low, high, panels=1, nodes=nodes)


_NORMAL = Kind("x", ("mean", "sigma"), lambda v, low, high: _truncated(mxd.Normal(v["mean"], v["sigma"]), low, high))

KINDS: dict[str, Kind] = {
    "gaussian_dist": _NORMAL,
    "normal_dist": _NORMAL,
    "exponential_dist": Kind("x", ("c",), lambda v, low, high: mxd.Exponential(v["c"], low, high), finite=True),
    "lognormal_dist": Kind(
        "x", ("mu", "sigma"), lambda v, low, high: _truncated(mxd.LogNormal(v["mu"], v["sigma"]), low, high)
    ),
    "poisson_dist": Kind("x", ("mean",), lambda v, low, high: mxd.Poisson(v["mean"])),
    "uniform_dist": Kind("x", (), lambda v, low, high: mxd.Uniform(low, high), finite=True),
    "argus_dist": Kind(
        "mass",
        ("resonance", "slope", "power"),
        lambda v, low, high: _truncated(mxd.Argus(v["resonance"], v["slope"], v["power"]), low, high),
    ),
    "crystalball_dist": Kind(
        "m", ("m0", ("sigma", "sigma_L"), ("alpha", "alpha_L"), ("n", "n_L")), _crystal_ball, finite=True
    ),
    "bernstein_poly_dist": Kind(
        "x",
        (),
        lambda v, low, high: mxd.Bernstein(jnp.stack(v["coefficients"]), low, high),
        ("coefficients",),
        finite=True,
    ),
    "chebychev_dist": Kind(
        "x",
        (),
        lambda v, low, high: mxd.Chebyshev(jnp.stack(v["coefficients"]), low, high),
        ("coefficients",),
        finite=True,
    ),
    "polynomial_dist": Kind("x", (), _polynomial, ("coefficients",), finite=True),
}
_OPTIONAL = {"crystalball_dist": ("sigma_R", "alpha_R", "n_R")}
_GENERIC = ("generic_dist", "density_function_dist", "log_density_function_dist", "rate_density_dist")
_COMPOSITE = ("mixture_dist", "product_dist", "rate_extended_dist", "bincounts_extended_dist", "histfactory_dist")


class Density(NamedTuple):
    """A distribution of a document, whose parameters are names. It holds no arrays: it is static to `jax.jit`.

    - `observables`: the names of the variables that it is a density of.
    - `operands`: its parameters, numbers or names, by key; a tuple of them for a list.
    - `parts`: the distributions that it is made of.
    - `expression`: that of a generic one; `logarithm`: whether it is the log of the density.
    """

    kind: str
    name: str
    observables: tuple[str, ...]
    operands: tuple[tuple[str, Operand | tuple[Operand, ...]], ...] = ()
    parts: tuple["Density", ...] = ()
    expression: Expression | None = None
    logarithm: bool = False
    extended: bool = False

    @property
    def inputs(self) -> tuple[Operand, ...]:
        """All numbers and names that it needs, without its observables."""
        operands: list[Operand] = []
        for _, given in self.operands:
            operands += given if isinstance(given, tuple) else [given]
        if self.expression is not None:
            operands += self.expression.names
        for part in self.parts:
            operands += part.inputs
        return tuple(operand for operand in operands if operand not in self.observables)


class Reader:
    """Reads distributions by name, for a likelihood whose data have certain variables."""

    def __init__(self, nodes: Mapping[str, Node], graph: Graph, variables: tuple[str, ...], ranges: Ranges):
        self.nodes: Mapping[str, Node] = nodes
        self.graph: Graph = graph
        self.variables: tuple[str, ...] = variables
        self.ranges: Ranges = ranges

    def read(self, name: Node, ancestors: tuple[str, ...] = ()) -> Density:
        """**Raises:** `ValueError` for a distribution that is missing, unsupported, or made of itself."""
        text = name.text()
        if text not in self.nodes:
            raise name.error(f"there is no distribution {shown(text)}")
        if text in ancestors or len(ancestors) > _MAX_DEPTH:
            raise name.error(f"the distribution {shown(text)} is made of itself")
        node = self.nodes[text]
        kind = node["type"].text()
        if kind in KINDS:
            return self._plain(node, kind, KINDS[kind])
        if kind in (*_GENERIC, *_COMPOSITE):
            check_keys(node, kind)
        if kind in _GENERIC:
            return self._generic(node, kind)
        if kind == "mixture_dist":
            return self._mixture(node, (*ancestors, text))
        if kind == "product_dist":
            parts = tuple(self.read(factor, (*ancestors, text)) for factor in node["factors"].some())
            return Density(kind, text, _union(parts), parts=parts)
        if kind in ("rate_extended_dist", "bincounts_extended_dist"):
            part = self.read(node["dist"], (*ancestors, text))
            rate = (("rate", operand(node["rate"])),)
            return Density(kind, text, part.observables, rate, (part,), extended=True)
        known = ", ".join((*KINDS, *_GENERIC, *_COMPOSITE))
        raise node["type"].error(f"{shown(kind)}, the distribution {shown(text)}, is not supported; there are {known}")

    def _plain(self, node: Node, kind: str, definition: Kind) -> Density:
        x = operand(check_keys(node, kind, definition.all_keys + _OPTIONAL.get(kind, ()))[definition.x])
        operands: list[tuple[str, Any]] = []
        for keys in definition.keys:
            options = (keys,) if isinstance(keys, str) else keys
            key = next((k for k in options if not node.get(k).missing), options[0])
            operands.append((key, operand(node[key])))
        for key in _OPTIONAL.get(kind, ()):
            if not node.get(key).missing:
                operands.append((key, operand(node[key])))
        for key in definition.lists:
            operands.append((key, tuple(operand(c) for c in node[key].some())))
        if kind == "crystalball_dist":
            _check_sides(node, {key for key, _ in operands})
        observables = (x,) if isinstance(x, str) and x in self.variables else ()
        if not observables:
            operands.append((definition.x, x))
        elif definition.finite and not np.all(np.isfinite(self.ranges.get(observables[0], (-np.inf, np.inf)))):
            raise node.error(
                f"the variable {shown(x)} of a {kind} needs a range: a domain, or an axis with min and max"
            )
        density = Density(kind, node["name"].text(), observables, tuple(operands))
        given = [term for _, each in operands for term in (each if isinstance(each, tuple) else (each,))]
        depends = self.graph.leaves(given) & set(self.variables)  # not by `inputs`, which leaves out the observable
        if depends and observables:
            raise node.error(f"a parameter of it depends on the variable {shown(min(depends))}: that is not supported")
        return density

    def _generic(self, node: Node, kind: str) -> Density:
        if kind == "generic_dist":
            expression = expression_of(node["expression"])
        else:  # a function by name
            name = node["density" if kind == "rate_density_dist" else "function"].text()
            expression = Expression(name, (name,), ("name", name))
        leaves = self.graph.leaves(expression.names)
        observables = tuple(v for v in self.variables if v in leaves)
        if len(observables) > 1:
            raise node.error(f"a {kind} of several observables ({', '.join(observables)}) is not supported")
        for x in observables:
            if not np.all(np.isfinite(self.ranges.get(x, (-np.inf, np.inf)))):
                raise node.error(f"the variable {shown(x)} of a {kind} needs a range: a domain, or an axis of the data")
        logarithm = kind == "log_density_function_dist"
        extended = kind == "rate_density_dist"
        return Density(
            kind, node["name"].text(), observables, expression=expression, logarithm=logarithm, extended=extended
        )

    def _mixture(self, node: Node, ancestors: tuple[str, ...]) -> Density:
        parts = tuple(self.read(part, ancestors) for part in node["summands"].some())
        coefficients = tuple(operand(c) for c in node["coefficients"].items())
        if len(coefficients) not in (len(parts), len(parts) - 1):
            raise node["coefficients"].error(f"there are {len(coefficients)} for {len(parts)} summands")
        given = node.get("extended")
        complete = len(coefficients) == len(parts)
        extended = complete if given.missing else given.flag()
        if extended and not complete:
            raise given.error("a mixture with extended=true needs a coefficient for each summand")
        for i, part in enumerate(parts):
            if set(part.observables) != set(parts[0].observables):
                first, other = (", ".join(summand.observables) or "no observable" for summand in (parts[0], part))
                raise node["summands"].error(
                    f"the summands of a mixture must have the same observables, but [0] has {first} and [{i}] {other}"
                )
        self._check_reference(node.get("ref_coef_norm"), _union(parts))
        operands = (("coefficients", coefficients),)
        return Density("mixture_dist", ancestors[-1], _union(parts), operands, parts, extended=extended)

    def _check_reference(self, reference: Node, observables: tuple[str, ...]) -> None:
        """RooFit's coefficients may be fractions on the range of some observables; all are supported."""
        if reference.missing:
            return
        given = (
            reference.text().split(",")
            if isinstance(reference.value, str)
            else [name.text() for name in reference.items()]
        )
        if {name.strip() for name in given} - {""} not in (set(), set(observables)):
            raise reference.error(
                f"coefficients that refer to other observables than those of the mixture, {', '.join(observables)}, "
                "are not supported"
            )


def _union(parts: tuple[Density, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part.observables))


def _check_sides(node: Node, keys: set[str]) -> None:
    for name in ("sigma", "alpha", "n"):
        plain, left, right = name in keys, f"{name}_L" in keys, f"{name}_R" in keys
        if plain and right:
            raise node.error(f"{name!r} and '{name}_R' cannot both be given")
        if left and not right:
            raise node.error(f"has '{name}_L' and no '{name}_R'")


def make(
    d: Density,
    values: Values,
    ranges: Ranges,
    order: tuple[str, ...] | None = None,
    instead: Mapping[str, Array] | None = None,
) -> Any:
    """The distribution at these values, of the observables in this order; `instead`: other values for a plain one."""
    order = d.observables if order is None else order
    if d.kind in ("rate_extended_dist", "bincounts_extended_dist"):
        return make(d.parts[0], values, ranges, order)
    if d.kind == "product_dist":
        return _product(d, values, ranges, order)
    if d.kind == "mixture_dist":
        components = [make(part, values, ranges, order) for part in d.parts]
        weights = [values(c) for c in _several(d, "coefficients")]
        if len(weights) == len(components):
            return mxd.Mixture(components, yields=weights)
        return mxd.Mixture(components, fractions=weights)
    low, high = ranges.get(order[0], (-np.inf, np.inf)) if order else (-np.inf, np.inf)
    if d.expression is not None:
        return mxd.Normalized(_LogDensity(d, values), low, high)
    given = {k: [values(o) for o in v] if isinstance(v, tuple) else values(v) for k, v in d.operands}
    return KINDS[d.kind].make(given | dict(instead or {}), low, high)


def total(d: Density, values: Values, ranges: Ranges) -> Array:
    """The expected number of events of an extended distribution."""
    if d.kind == "mixture_dist":
        return jnp.asarray(sum(values(c) for c in _several(d, "coefficients")))
    if d.expression is not None:
        return jnp.exp(make(d, values, ranges).normalization)
    return values(dict(d.operands)["rate"])  # type: ignore[arg-type]


def _several(d: Density, key: str) -> tuple[Operand, ...]:
    operands = dict(d.operands)[key]
    assert isinstance(operands, tuple)
    return operands


class _LogDensity:
    """The log of an expression's value as a function of the observable."""

    def __init__(self, d: Density, values: Values):
        self.d, self.values = d, values

    def __call__(self, x: Array) -> Array:
        assert self.d.expression is not None
        value = self.d.expression.value(self.values.at({self.d.observables[0]: x}))
        value = jnp.broadcast_to(value, x.shape)
        return value if self.d.logarithm else jnp.log(value)


class _SumOfLogs:
    """The log of a product of densities of one observable."""

    def __init__(self, factors: tuple[Any, ...]):
        self.factors = factors

    def __call__(self, x: Array) -> Array:
        return functools.reduce(jnp.add, [factor.log_prob(x) for factor in self.factors])


def _product(d: Density, values: Values, ranges: Ranges, order: tuple[str, ...]) -> Any:
    """Factors of different observables are independent; those of one observable are one density, normalised again."""
    distributions = []
    for x in order:
        factors = [make(part, values, ranges, (x,)) for part in d.parts if x in part.observables]
        if len(factors) == 1:
            distributions.append(factors[0])
        else:
            distributions.append(mxd.Normalized(_SumOfLogs(tuple(factors)), *ranges[x]))
    return distributions[0] if len(distributions) == 1 else mxd.Product(distributions)
