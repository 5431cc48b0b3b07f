"""The interface of a likelihood, and `Joint`, the sum of several, which `+` makes.

Likelihoods are called as `nll(params, data)`. Each public function first turns a plain function into one by
`as_likelihood`. A method that a likelihood does not provide is `None`.
"""

import abc
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Scalar

from .._hints.calls import check_callable, given, refuse_data
from .._parameters.resolve import resolve
from .._util.typing import PyTree
from .._util.unavailable import Unavailable
from .spread import At, information, spread_of, treatment

Parts = dict[str, Callable[[Any, Any], ArrayLike]] | tuple[Callable[[Any, Any], ArrayLike], ...]


class AbstractLikelihood(eqx.Module):
    """Minus the log of a likelihood, in units in which it rises by 1/2 over one standard error.

    A final class defines `__call__` and those of the methods below that are meaningful for it; the others are `None`. A
    method that only some instances provide is a property that may be `None`. All methods take resolved `params`.

    - `sample(params, key, data=None)`: data drawn at `params`; `data` provides what is not drawn (the number of events,
        the coordinates of points).
    - `expected_data(params, data=None)`: the Asimov data, a fit to which gives `params`.
    - `resample(key, data)`: a bootstrap sample of the data.
    - `prediction(params, data=None)`: the model's expectation for each number of the data.
    - `pulls(params, data)`: (observed - expected) / standard deviation, for pictures.
    - `deviance(params, data)`: twice the likelihood relative to the saturated model, for `mx.goodness_of_fit`.
    - `ndata(data)`: the number of data points, without masked ones.
    - `residuals(params, data)`: the likelihood is half their sum of squares.
    - `terms(params, data)`: one number per event, whose sum is the likelihood; `rows(data)`: the events, where they are
        processed in chunks of `chunk_size`.
    - `faults(params, data)`: `Fault` codes, for messages.
    - `complaints(params, data)`: sentences that `mx.fit` issues as warnings when it is not traced.
    - `varying(params, data)` and `constant(data)`, whose sum is the value: a fit minimises only the first, which is
        cheaper and more accurate, because no digits are lost to a large constant.
    - `prefit(params, data)`: names, values and errors of constrained parameters.
    - `covariance_kind(data)`: the appropriate covariance for these data, "hesse", "sandwich" or "scaled" (see
        `mx.fit(hesse=...)`).

    Its properties:

    - `is_constraint`: it is a measurement of parameters.
    - `is_chi2`: twice its value is a chi2.
    - `is_plain`: it is a function of which nothing more is known, including its units.
    - `events`: for a plain function, whether the rows of its data are events; `None` if unspecified.
    - `draws_all`: `False` if toys omit a fluctuation that the likelihood includes in its errors.
    - `kinks`: the positions where the slope of the likelihood jumps, by parameter name, or `None`. A minimum may lie
        there although no derivative is zero.
    """

    sample = None
    expected_data = None
    resample = None
    prediction = None
    pulls = None
    deviance = None
    ndata = None
    residuals = None
    terms = None
    rows = None
    chunk_size = None
    faults = None
    complaints = None
    varying = None
    constant = None
    prefit = None
    covariance_kind = None

    is_constraint = False
    is_chi2 = False
    is_plain = False
    events = None
    draws_all = True
    kinks = None

    @property
    def name(self) -> str:
        """The name used in messages."""
        return type(self).__name__

    def scale_is_unknown(self, data: Any) -> bool:
        """Whether the scale of the errors of the data is estimated from their scatter."""
        del data
        return False

    def needs_scale(self, data: Any, what: str, otherwise: str = "") -> None:
        """**Raises:** `TypeError` if the scale is unknown, which `what` cannot handle; `otherwise`: an alternative."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """**Raises:** `TypeError` for a likelihood that is constructed with its data, as those of iminuit are."""
        if cls.__module__.startswith(f"{__package__}."):  # a user's class may have the same name
            refuse_data(cls.__name__, args, kwargs)
        return super().__new__(cls)

    @abc.abstractmethod
    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood of `data` at `params`."""

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """The covariance matrix of the gradient with respect to `x` (J of the sandwich) that follows from the errors of
        the data; `at(x)` are the parameters. By default this is the information, the second derivative, which equals J
        on average for a correct likelihood; likelihoods that know more override it (see `spread.py`)."""
        return information(self, at, x, data)

    def __add__(self, other: Any) -> "AbstractLikelihood":
        """`a + b` is `mx.Joint((a, b))`, whose data are a tuple; `joint + {"name": c}` adds a named term."""
        return _joined(self, other)

    def __radd__(self, other: Any) -> "AbstractLikelihood":
        if isinstance(other, int) and other == 0:  # sum([...]) starts with 0
            return self
        return _joined(other, self)


def _parts(parts: Any) -> Any:
    return dict(parts) if isinstance(parts, Mapping) else tuple(parts) if isinstance(parts, list | tuple) else parts


class Function(AbstractLikelihood):
    """A user's function, or an object with some of these methods: `sample`, `expected_data`, `prediction` (each
    with or without `data`, the last argument), `terms`, `residuals`, `deviance`, `ndata`, `pulls`, `prefit`."""

    function: Callable[[Any, Any], ArrayLike]
    is_plain = True

    def __check_init__(self) -> None:
        check_callable(self.function)

    def __call__(self, params: PyTree, data: Any) -> Any:
        return self.function(params, data)

    def _own(self, name: str) -> Callable[..., Any] | None:
        found = getattr(self.function, name, None)
        return found if callable(found) else None  # a model may have a field of this name

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def sample(self) -> Callable[..., Any] | None:
        return _with_data(self._own("sample"), 2)

    @property
    def expected_data(self) -> Callable[..., Any] | None:
        return _with_data(self._own("expected_data"), 1)

    @property
    def terms(self) -> Callable[..., Any] | None:
        return self._own("terms")

    @property
    def residuals(self) -> Callable[..., Any] | None:
        return self._own("residuals")

    @property
    def deviance(self) -> Callable[..., Any] | None:
        return self._own("deviance")

    @property
    def ndata(self) -> Callable[..., Any] | None:
        return self._own("ndata")

    @property
    def prediction(self) -> Callable[..., Any] | None:
        return _with_data(self._own("prediction"), 1)

    @property
    def pulls(self) -> Callable[..., Any] | None:
        return self._own("pulls")

    @property
    def prefit(self) -> Callable[..., Any] | None:
        return self._own("prefit")

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: from its terms or the rows of the data, else the second derivative."""
        return spread_of(self, treatment(self, data, "")[0], at, x, x, data).matrix


def _with_data(method: Callable[..., Any] | None, n_others: int) -> Callable[..., Any] | None:
    """Wrap a method so that it accepts `data` after `n_others` other arguments, whether or not it uses it."""
    if method is None:
        return None
    try:
        inspect.signature(method).bind(*[None] * (n_others + 1))
    except TypeError:
        return lambda *args: method(*args[:n_others])
    except ValueError:  # a built-in function has no signature
        return method
    return method


def as_likelihood(nll: Any) -> Any:
    """Return a likelihood of migrax unchanged, anything else as a `Function`.

    **Raises:** `TypeError` for an object that cannot be called as `nll(params, data)`.
    """
    return nll if isinstance(nll, AbstractLikelihood) else Function(nll)


class AbstractJoint(AbstractLikelihood):
    """The sum of several likelihoods of the same parameters, each with its own data: a dictionary with the keys of
    `parts`, or a tuple of the same length."""

    parts: eqx.AbstractVar[Any]

    def __check_init__(self) -> None:
        if not isinstance(self.parts, dict | tuple):
            raise TypeError(
                f"Joint takes a dictionary or a sequence of likelihoods, got {type(self.parts).__name__}: "
                'mx.Joint({"counts": nll, "lumi": constraint})'
            )
        if not self.parts:
            raise ValueError("Joint has no likelihoods")
        for name, part in self.parts.items() if isinstance(self.parts, dict) else enumerate(self.parts):
            check_callable(part, f"the part {name!r} of Joint")

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """The sum of the parts."""
        params = resolve(params)
        items = list(self.items(data))
        for name, part, d in items:
            part.needs_scale(d, f"the part {name!r} of Joint")
        return functools.reduce(jnp.add, [jnp.asarray(part(params, d)) for _, part, d in items])

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: the sum over the parts."""
        parts = [(part, treatment(part, d, str(name))[0], d) for name, part, d in self.items(data)]
        return functools.reduce(jnp.add, [spread_of(part, treated, at, x, x, d).matrix for part, treated, d in parts])

    def _named(self) -> list[tuple[str | int, Any]]:
        # sorted, as JAX sorts the keys of the data
        named = sorted(self.parts.items()) if isinstance(self.parts, dict) else enumerate(self.parts)
        return [(name, as_likelihood(part)) for name, part in named]

    def items(self, data: Any) -> Iterator[tuple[str | int, Any, Any]]:
        """Iterate over the name, likelihood and data of each part.

        **Raises:** `TypeError` or `ValueError` unless the data have the same keys, or the same length.
        """
        named = self._named()
        if isinstance(self.parts, dict):
            if not isinstance(data, Mapping):
                raise TypeError(
                    f"the data of this Joint are a dictionary with the keys {self._keys()}, got {given(data)}"
                )
            missing = [name for name, _ in named if name not in data]
            unknown = [name for name in data if name not in self.parts]
            if missing or unknown:
                problems = [f"lack {', '.join(map(repr, missing))}"] * bool(missing)
                problems += [f"have {', '.join(map(repr, unknown))}, which it does not know"] * bool(unknown)
                raise ValueError(f"this Joint has the parts {self._keys()}; the data {' and '.join(problems)}")
        # a list of numbers has been converted to a vector
        elif not (isinstance(data, tuple | list) or jnp.ndim(data) == 1) or len(data) != len(named):
            got = f"{len(data)} of them" if isinstance(data, tuple | list) else given(data)
            raise ValueError(f"the data of this Joint are a tuple of {len(named)}, one for each part, got {got}")
        entries: Any = data
        return ((name, part, entries[name]) for name, part in named)

    def _keys(self) -> str:
        return ", ".join(repr(name) for name, _ in self._named())

    def _all(self, method: str) -> bool:
        return all(getattr(part, method) is not None for _, part in self._named())

    def _shaped(self, values: list[Any]) -> Any:
        """Arrange one value per part in the structure of the data."""
        if isinstance(self.parts, dict):
            return {name: value for (name, _), value in zip(self._named(), values, strict=True)}
        return tuple(values)

    def _each(self, method: str, data: Any, *args: Any) -> Any:
        """Call a method of each part with its data, and arrange the results in the structure of the data.

        **Raises:** `TypeError` for a part that does not provide the method.
        """
        items = [(name, part, None) for name, part in self._named()] if data is None else self.items(data)
        return self._shaped([_require(name, part, method)(*args, d) for name, part, d in items])

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Any:
        """The data of one toy: each part draws its own, constraints their global observables."""
        keys = jax.random.split(key, len(self.parts))
        items = [(name, part, None) for name, part in self._named()] if data is None else list(self.items(data))
        return self._shaped(
            [_require(name, part, "sample")(params, k, d) for (name, part, d), k in zip(items, keys, strict=True)]
        )

    def resample(self, key: Array, data: Any) -> Any:
        """A bootstrap sample of the data of each part."""
        items = list(self.items(data))
        keys = jax.random.split(key, len(items))
        return self._shaped(
            [_require(name, part, "resample")(k, d) for (name, part, d), k in zip(items, keys, strict=True)]
        )

    def expected_data(self, params: PyTree, data: Any = None) -> Any:
        """The Asimov data of each part."""
        return self._each("expected_data", data, params)

    def prediction(self, params: PyTree, data: Any = None) -> Any:
        """The expectation of each part."""
        return self._each("prediction", data, params)

    def pulls(self, params: PyTree, data: Any) -> Any:
        """The pulls of each part."""
        return self._each("pulls", data, params)

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """The sum of the deviances of the parts."""
        return functools.reduce(jnp.add, jax.tree.leaves(self._each("deviance", data, params)))

    @property
    def ndata(self) -> Callable[[Any], Any] | None:
        """`ndata(data)`: the sum over the parts; `None` if a part does not know its own."""
        return (lambda data: sum(part.ndata(d) for _, part, d in self.items(data))) if self._all("ndata") else None

    @property
    def residuals(self) -> Callable[[Any, Any], Float[Array, " n"]] | None:
        """`residuals(params, data)`: those of all parts, concatenated; `None` if a part has none."""
        if not self._all("residuals"):
            return None
        return lambda params, data: jnp.concatenate(
            [jnp.ravel(part.residuals(params, d)) for _, part, d in self.items(data)]
        )

    @property
    def draws_all(self) -> bool:
        """Whether the toys of all parts include all fluctuations: see `AbstractLikelihood`."""
        return all(part.draws_all for _, part in self._named())

    @property
    def is_chi2(self) -> bool:
        return all(part.is_chi2 for _, part in self._named())

    @property
    def kinks(self) -> dict[str, Any] | None:
        """The kinks of all parts: see `AbstractLikelihood`."""
        merged: dict[str, Any] = {}
        for _, part in self._named():
            for name, at in (part.kinks or {}).items():
                at = jnp.ravel(jnp.asarray(at, float))
                merged[name] = jnp.concatenate([merged[name], at]) if name in merged else at
        return merged or None

    def covariance_kind(self, data: Any) -> str:
        """The covariance that is right for these data: see `mx.fit(hesse=...)`."""
        kinds = [part.covariance_kind(d) for _, part, d in self.items(data) if part.covariance_kind is not None]
        return "sandwich" if "sandwich" in kinds else "hesse"

    def complaints(self, params: PyTree, data: Any) -> list[str]:
        """The warnings of the parts, with their names."""
        return [
            f"{name!r}: {sentence}"
            for name, part, d in self.items(data)
            if part.complaints is not None
            for sentence in part.complaints(params, d)
        ]

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` codes of each part, for messages."""

        def faults_of(part: Any, d: Any) -> PyTree:
            if part.faults is not None:
                return part.faults(params, d)
            return [jnp.zeros(jnp.shape(a), int) for a in jax.tree.leaves(d)]

        return self._shaped([faults_of(part, d) for _, part, d in self.items(data)])

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Names, values and errors of the constrained parameters before the fit."""
        return [x for _, part, d in self.items(data) if part.prefit is not None for x in part.prefit(params, d)]


class Joint(AbstractJoint):
    """The sum of several likelihoods of the same parameters, each with its own data.

    ```python
    nll = mx.Joint({"signal": signal_region, "control": control_region, "lumi": mx.NormalConstraint("lumi", 0.02)})
    mx.fit(nll, params, {"signal": counts, "control": others, "lumi": 1.0})
    ```

    `a + b` is `mx.Joint((a, b))`, and its data are a tuple; `joint + {"name": c}` adds a named term.

    **Arguments:**

    - `parts`: a dictionary of likelihoods (of migrax, or plain functions `nll(params, data)`), or a sequence of them.
        The data are a dictionary with the same keys, or a tuple of the same length.

    **Raises:** `TypeError` for parts that cannot be called this way, `ValueError` if there is no part.
    """

    parts: Parts = eqx.field(converter=_parts)


def _require(name: str | int, part: AbstractLikelihood, method: str) -> Callable[..., Any]:
    bound = getattr(part, method)
    if bound is None:
        raise Unavailable(f"the part {name!r} ({part.name}) has no {method}: see mx.Likelihood")
    return bound


def _joined(left: Any, right: Any) -> AbstractLikelihood:
    parts: list[Any] = [part.parts if isinstance(part, Joint) else part for part in (left, right)]
    if all(isinstance(part, Mapping) for part in parts):
        both = sorted(set(parts[0]) & set(parts[1]))
        if both:
            raise ValueError(f"both likelihoods have a term {both[0]!r}; give them different names")
        return Joint({**parts[0], **parts[1]})
    if any(isinstance(part, Mapping) for part in parts):
        raise TypeError('a Joint with names takes named terms: joint + {"name": likelihood}')
    terms = [part if isinstance(part, tuple) else (part,) for part in parts]
    return Joint((*terms[0], *terms[1]))
