"""What a likelihood can be asked, and the sum of several: `+` joins them, and what joins must know what it returns.

Likelihoods are called as `nll(params, data)`. A plain function becomes one at the door of each public function, by
`as_likelihood`; from there on nobody asks whether something is there: what a likelihood cannot do is `None`.
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
from .spread import At, information, spread_of, treatment

Parts = dict[str, Callable[[Any, Any], ArrayLike]] | tuple[Callable[[Any, Any], ArrayLike], ...]


class AbstractLikelihood(eqx.Module):
    """Minus the log of a likelihood, in units in which an error is a rise by 1/2.

    A final class brings `__call__`, and of the abilities below those that mean something for it, as methods. The others
    are `None`, as are those that a likelihood has only sometimes (then they are properties). `params` are resolved.

    - `sample(params, key, data=None)`: data drawn at `params`; `data` says what is not drawn (the number of events, the
        coordinates of points).
    - `expected_data(params, data=None)`: the Asimov data, whose fit gives `params`.
    - `resample(key, data)`: a bootstrap sample of the data.
    - `prediction(params, data=None)`: what the model expects of each number of the data.
    - `pulls(params, data)`: (observed - expected) / standard deviation, for pictures.
    - `deviance(params, data)`: twice the likelihood above that of the saturated model, for `mx.goodness_of_fit`.
    - `ndata(data)`: how many numbers the data are, of those that count.
    - `residuals(params, data)`: half of whose sum of squares the likelihood is.
    - `terms(params, data)`: one number an event, the sum of which the likelihood is; `rows(data)` the events, where
        they are taken in chunks of `chunk_size`.
    - `faults(params, data)`: `Fault` numbers for messages.
    - `complaints(params, data)`: sentences of which `mx.fit` warns, where it is not traced.
    - `varying(params, data)` and `constant(data)`, whose sum the value is: a fit walks on the first alone, which is
        cheaper and loses no digits to the other.
    - `prefit(params, data)`: names, values and errors of constrained parameters.
    - `covariance_kind(data)`: the covariance that is right for these data, "hesse", "sandwich" or "scaled" (see
        `mx.fit(hesse=...)`).

    What it is, and where it has kinks:

    - `is_constraint`: a measurement of parameters.
    - `is_chi2`: twice its value is a chi2.
    - `is_plain`: a function of which nothing more is known, its units included.
    - `events`: of a plain function, whether the rows of its data are events; `None` if nobody said.
    - `draws_all`: `False` where toys leave something out that the likelihood has an error for.
    - `kinks`: the places where the slope of the likelihood jumps, by the names of parameters, or `None`. A minimum may
        lie there though no derivative is zero.
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
        """As messages call it."""
        return type(self).__name__

    def scale_is_unknown(self, data: Any) -> bool:
        """Whether the size of the errors of the data is to be taken from their scatter."""
        del data
        return False

    def needs_scale(self, data: Any, what: str, otherwise: str = "") -> None:
        """**Raises:** `TypeError` where it is, as `what` cannot do that; `otherwise`: what else there is."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """**Raises:** `TypeError` for a likelihood that is made with its data, as those of iminuit are."""
        if cls.__module__.startswith(f"{__package__}."):  # a class of the user's may have the same name
            refuse_data(cls.__name__, args, kwargs)
        return super().__new__(cls)

    @abc.abstractmethod
    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """Minus the log of the likelihood of `data` at `params`."""

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """The covariance matrix of the slope by `x`, J of the sandwich, where `at(x)` are the parameters: what the
        errors of the data make of it. Here the information, the second derivative, which it is for a right likelihood
        on average; likelihoods that know more override it (see `spread.py`)."""
        return information(self, at, x, data)

    def __add__(self, other: Any) -> "AbstractLikelihood":
        """`a + b` is `mx.Joint((a, b))`, whose data are a tuple; `joint + {"name": c}` adds a named term."""
        return _joined(self, other)

    def __radd__(self, other: Any) -> "AbstractLikelihood":
        if isinstance(other, int) and other == 0:  # sum([...]) begins with it
            return self
        return _joined(other, self)


def _parts(parts: Any) -> Any:
    return dict(parts) if isinstance(parts, Mapping) else tuple(parts) if isinstance(parts, list | tuple) else parts


class Function(AbstractLikelihood):
    """A function of the user's, or an object with some of these methods: `sample`, `expected_data`, `prediction` (each
    with or without `data`, the last argument), `terms`, `residuals`, `deviance`, `ndata`, `pulls`, `prefit`."""

    function: Callable[[Any, Any], ArrayLike]
    is_plain = True

    def __check_init__(self) -> None:
        check_callable(self.function)

    def __call__(self, params: PyTree, data: Any) -> Any:
        return self.function(params, data)

    def _own(self, name: str) -> Callable[..., Any] | None:
        return getattr(self.function, name, None)

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
        """J of the sandwich: of its terms or of the rows of the data, or the second derivative."""
        return spread_of(self, treatment(self, data, "")[0], at, x, x, data).matrix


def _with_data(own: Callable[..., Any] | None, others: int) -> Callable[..., Any] | None:
    """A method that takes `data` after so many other arguments, whether it looks at them or not."""
    if own is None:
        return None
    try:
        inspect.signature(own).bind(*[None] * (others + 1))
    except TypeError:
        return lambda *args: own(*args[:others])
    return own


def as_likelihood(nll: Any) -> Any:
    """A likelihood of migrax as it is, anything else as a `Function`.

    **Raises:** `TypeError` for what cannot be called as `nll(params, data)`.
    """
    return nll if isinstance(nll, AbstractLikelihood) else Function(nll)


class AbstractJoint(AbstractLikelihood):
    """The sum of several likelihoods of the same parameters, each with its own data, which are a dictionary with the
    keys of `parts`, or a tuple of the same length."""

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
        """J of the sandwich: the sum of those of the parts."""
        parts = [(part, treatment(part, d, str(name))[0], d) for name, part, d in self.items(data)]
        return functools.reduce(jnp.add, [spread_of(part, how, at, x, x, d).matrix for part, how, d in parts])

    def _named(self) -> list[tuple[str | int, Any]]:
        # sorted, as JAX orders the data
        named = sorted(self.parts.items()) if isinstance(self.parts, dict) else enumerate(self.parts)
        return [(name, as_likelihood(part)) for name, part in named]

    def items(self, data: Any) -> Iterator[tuple[str | int, Any, Any]]:
        """Name, part and data of each.

        **Raises:** `TypeError`, `ValueError` unless the data have the same keys, or the same length.
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
                said = [f"lack {', '.join(map(repr, missing))}"] * bool(missing)
                said += [f"have {', '.join(map(repr, unknown))}, which it does not know"] * bool(unknown)
                raise ValueError(f"this Joint has the parts {self._keys()}; the data {' and '.join(said)}")
        # a list of numbers has become a vector
        elif not (isinstance(data, tuple | list) or jnp.ndim(data) == 1) or len(data) != len(named):
            got = f"{len(data)} of them" if isinstance(data, tuple | list) else given(data)
            raise ValueError(f"the data of this Joint are a tuple of {len(named)}, one for each part, got {got}")
        its: Any = data
        return ((name, part, its[name]) for name, part in named)

    def _keys(self) -> str:
        return ", ".join(repr(name) for name, _ in self._named())

    def _all(self, ability: str) -> bool:
        return all(getattr(part, ability) is not None for _, part in self._named())

    def _shaped(self, values: list[Any]) -> Any:
        """One value a part, in the structure of the data."""
        if isinstance(self.parts, dict):
            return {name: value for (name, _), value in zip(self._named(), values, strict=True)}
        return tuple(values)

    def _each(self, ability: str, data: Any, *args: Any) -> Any:
        """What each part answers for its data, in the structure of the data.

        **Raises:** `TypeError` for a part that does not have the ability.
        """
        items = [(name, part, None) for name, part in self._named()] if data is None else self.items(data)
        return self._shaped([_ability(name, part, ability)(*args, d) for name, part, d in items])

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Any:
        """Data of one toy: each part draws its own, constraints their global observables."""
        keys = jax.random.split(key, len(self.parts))
        items = [(name, part, None) for name, part in self._named()] if data is None else list(self.items(data))
        return self._shaped(
            [_ability(name, part, "sample")(params, k, d) for (name, part, d), k in zip(items, keys, strict=True)]
        )

    def resample(self, key: Array, data: Any) -> Any:
        """A bootstrap sample of the data of each part."""
        items = list(self.items(data))
        keys = jax.random.split(key, len(items))
        return self._shaped(
            [_ability(name, part, "resample")(k, d) for (name, part, d), k in zip(items, keys, strict=True)]
        )

    def expected_data(self, params: PyTree, data: Any = None) -> Any:
        """The Asimov data of each part."""
        return self._each("expected_data", data, params)

    def prediction(self, params: PyTree, data: Any = None) -> Any:
        """What each part expects."""
        return self._each("prediction", data, params)

    def pulls(self, params: PyTree, data: Any) -> Any:
        """The pulls of each part."""
        return self._each("pulls", data, params)

    def deviance(self, params: PyTree, data: Any) -> Scalar:
        """The sum of those of the parts."""
        return functools.reduce(jnp.add, jax.tree.leaves(self._each("deviance", data, params)))

    @property
    def ndata(self) -> Callable[[Any], Any] | None:
        """`ndata(data)`: the sum of those of the parts; `None` if one does not know its own."""
        return (lambda data: sum(part.ndata(d) for _, part, d in self.items(data))) if self._all("ndata") else None

    @property
    def residuals(self) -> Callable[[Any, Any], Float[Array, " n"]] | None:
        """`residuals(params, data)`: those of all parts; `None` if one has none."""
        if not self._all("residuals"):
            return None
        return lambda params, data: jnp.concatenate(
            [jnp.ravel(part.residuals(params, d)) for _, part, d in self.items(data)]
        )

    @property
    def draws_all(self) -> bool:
        """Whether toys of all parts do: see `AbstractLikelihood`."""
        return all(part.draws_all for _, part in self._named())

    @property
    def is_chi2(self) -> bool:
        return all(part.is_chi2 for _, part in self._named())

    @property
    def kinks(self) -> dict[str, Any] | None:
        """Those of all parts: see `AbstractLikelihood`."""
        found: dict[str, Any] = {}
        for _, part in self._named():
            for name, at in (part.kinks or {}).items():
                at = jnp.ravel(jnp.asarray(at, float))
                found[name] = jnp.concatenate([found[name], at]) if name in found else at
        return found or None

    def covariance_kind(self, data: Any) -> str:
        """The covariance that is right for these data: see `mx.fit(hesse=...)`."""
        kinds = [part.covariance_kind(d) for _, part, d in self.items(data) if part.covariance_kind is not None]
        return "sandwich" if "sandwich" in kinds else "hesse"

    def complaints(self, params: PyTree, data: Any) -> list[str]:
        """What the parts warn of, with their names."""
        return [
            f"{name!r}: {sentence}"
            for name, part, d in self.items(data)
            if part.complaints is not None
            for sentence in part.complaints(params, d)
        ]

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` numbers of each part, for messages."""

        def of(part: Any, d: Any) -> PyTree:
            if part.faults is not None:
                return part.faults(params, d)
            return [jnp.zeros(jnp.shape(a), int) for a in jax.tree.leaves(d)]

        return self._shaped([of(part, d) for _, part, d in self.items(data)])

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Names, values and errors of the constrained parameters before the fit."""
        return [x for _, part, d in self.items(data) if part.prefit is not None for x in part.prefit(params, d)]


class Joint(AbstractJoint):
    """Several likelihoods of the same parameters: the sum of them, each with its own data.

    ```python
    nll = mx.Joint({"signal": signal_region, "control": control_region, "lumi": mx.NormalConstraint("lumi", 0.02)})
    mx.fit(nll, params, {"signal": counts, "control": others, "lumi": 1.0})
    ```

    `a + b` is `mx.Joint((a, b))`, and its data are a tuple; `joint + {"name": c}` adds a named term.

    **Arguments:**

    - `parts`: a dictionary of likelihoods (of migrax, or plain functions `nll(params, data)`), or a sequence of them.
        The data are a dictionary with the same keys, or a tuple of the same length.

    **Raises:** `TypeError` for what cannot be called so, `ValueError` without a part.
    """

    parts: Parts = eqx.field(converter=_parts)


def _ability(name: str | int, part: AbstractLikelihood, ability: str) -> Callable[..., Any]:
    found = getattr(part, ability)
    if found is None:
        raise TypeError(f"the part {name!r} ({part.name}) has no {ability}: see mx.Likelihood")
    return found


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
