"""Several likelihoods at once, and plain functions dressed as likelihoods."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Scalar

from .._hints.calls import check_callable, given
from .._parameters.resolve import resolve
from .._util.typing import PyTree
from .base import AbstractLikelihood
from .least_squares import NEEDS_SCALE
from .own_draws import AbstractWithOwnDraws, check_draws
from .spread import At, spread_of, treatment


def _parts(parts: Any) -> Any:
    return dict(parts) if isinstance(parts, Mapping) else tuple(parts) if isinstance(parts, list | tuple) else parts


Parts = dict[str, Callable[[Any, Any], ArrayLike]] | tuple[Callable[[Any, Any], ArrayLike], ...]


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
        for name, part in self._named():
            check_callable(part, f"the part {name!r} of Joint")

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        """The sum of the parts."""
        params = resolve(params)
        items = list(self.items(data))
        for name, part, d in items:
            if hasattr(part, "scale_is_unknown") and part.scale_is_unknown(d):
                raise TypeError(f"the part {name!r} of Joint {NEEDS_SCALE}")
        return functools.reduce(jnp.add, [jnp.asarray(part(params, d)) for _, part, d in items])

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: the sum of those of the parts."""
        parts = [(part, treatment(part, d, str(name))[0], d) for name, part, d in self.items(data)]
        return functools.reduce(jnp.add, [spread_of(part, how, at, x, x, d).matrix for part, how, d in parts])

    def _named(self) -> list[tuple[str | int, Any]]:
        # sorted, as JAX orders the data
        return sorted(self.parts.items()) if isinstance(self.parts, dict) else list(enumerate(self.parts))

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

    def _all(self, attribute: str) -> bool:
        return all(getattr(part, attribute, None) is not None for _, part in self._named())

    def _shaped(self, values: list[Any]) -> Any:
        """One value a part, in the structure of the data."""
        if isinstance(self.parts, dict):
            return {name: value for (name, _), value in zip(self._named(), values, strict=True)}
        return tuple(values)

    def _each(self, method: str, data: Any, *args: Any) -> Any:
        """The method of each part with its data, in the structure of the data.

        **Raises:** `TypeError` for a part that has no such method.
        """
        items = [(name, part, None) for name, part in self._named()] if data is None else self.items(data)
        return self._shaped([_method(name, part, method)(*args, d) for name, part, d in items])

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Any:
        """Data of one toy: each part draws its own, constraints their global observables."""
        keys = jax.random.split(key, len(self.parts))
        items = [(name, part, None) for name, part in self._named()] if data is None else list(self.items(data))
        drawn = [_draw(name, part, params, k, d) for (name, part, d), k in zip(items, keys, strict=True)]
        return self._shaped(drawn)

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
        return all(getattr(part, "draws_all", True) for _, part in self._named())

    @property
    def is_chi2(self) -> bool:
        return all(getattr(part, "is_chi2", False) for _, part in self._named())

    @property
    def kinks(self) -> dict[str, Any] | None:
        """Those of all parts: see `AbstractLikelihood`."""
        found: dict[str, Any] = {}
        for _, part in self._named():
            # a user's own module may have a field of this name
            places = getattr(part, "kinks", None) if isinstance(part, AbstractLikelihood) else None
            for name, at in (places or {}).items():
                at = jnp.ravel(jnp.asarray(at, float))
                found[name] = jnp.concatenate([found[name], at]) if name in found else at
        return found or None

    def covariance_kind(self, data: Any) -> str:
        """The covariance that is right for these data: see `mx.fit(hesse=...)`."""
        kinds = [part.covariance_kind(d) for _, part, d in self.items(data) if hasattr(part, "covariance_kind")]
        return "sandwich" if "sandwich" in kinds else "hesse"

    def complaints(self, params: PyTree, data: Any) -> list[str]:
        """What the parts warn of, with their names."""
        return [
            f"{name!r}: {sentence}"
            for name, part, d in self.items(data)
            if hasattr(part, "complaints")
            for sentence in part.complaints(params, d)
        ]

    def faults(self, params: PyTree, data: Any) -> PyTree:
        """`Fault` numbers of each part, for messages."""

        def of(part: Any, d: Any) -> PyTree:
            if hasattr(part, "faults"):
                return part.faults(params, d)
            return [jnp.zeros(jnp.shape(a), int) for a in jax.tree.leaves(d)]

        return self._shaped([of(part, d) for _, part, d in self.items(data)])

    def prefit(self, params: PyTree, data: Any) -> list[tuple[str, Array, Array]]:
        """Names, values and errors of the constrained parameters before the fit."""
        return [x for _, part, d in self.items(data) if hasattr(part, "prefit") for x in part.prefit(params, d)]


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


def _method(name: str | int, part: Any, method: str) -> Callable:
    found = getattr(part, method, None)
    if found is None:
        raise TypeError(f"the part {name!r} ({type(part).__name__}) has no {method}: see mx.Likelihood")
    return found


def _draw(name: str | int, part: Any, params: PyTree, key: Array, data: Any) -> Any:
    return _method(name, part, "sample")(params, key, data)


class Likelihood(AbstractWithOwnDraws):
    """A plain function `nll(params, data)` dressed as a likelihood: with what toys and Asimov data need.

    ```python
    nll = mx.Likelihood(lambda p, d: 0.5 * (d - p["mu"]) ** 2, sample=lambda p, key: p["mu"] + jax.random.normal(key))
    toys = mx.sample(nll, params, jax.random.key(0), 1000)
    ```

    **Arguments:**

    - `nll`: `nll(params, data) -> scalar`, minus log L.
    - `sample`: `sample(params, key) -> data`, one toy.
    - `expected_data`: `expected_data(params) -> data`, the Asimov data.
    - `events`: for the robust covariance (`hesse="sandwich"`, and beside weighted events): `True` for a sum over rows
        of the data that are events, weighted or not, whose squared slopes add up; `False` for counts, or a measurement
        whose errors the likelihood knows, whose second derivative is the spread of its slope. Default: rows, where
        there are ten or more and they add up to it.
    - `kinks`: where the slope of `nll` jumps, as that of `jnp.abs`, `jnp.maximum` or `jnp.where` does: by the name of a
        parameter one place, or a list of them, as in `{"alpha": 0.0}`. A fit that ends there, or starts there, is
        not a fit that failed.

    The functions are called with the resolved parameters.

    **Raises:** `TypeError` for what cannot be called so; `ValueError`, in a fit, for kinks of an unknown parameter.
    """

    nll: Callable[[Any, Any], ArrayLike]
    kinks: dict[str, Array] | None
    _sample: Callable[[Any, Array], Any] | None
    _expected_data: Callable[[Any], Any] | None
    events: bool | None = eqx.field(static=True)

    def __init__(
        self,
        nll: Callable[[Any, Any], ArrayLike],
        sample: Callable[[Any, Array], Any] | None = None,
        expected_data: Callable[[Any], Any] | None = None,
        *,
        events: bool | None = None,
        kinks: Mapping[str, ArrayLike] | None = None,
    ):
        check_callable(nll)
        if not (events is None or isinstance(events, bool)):
            raise TypeError(f"events of Likelihood must be True, False or None, got {events!r}")
        check_draws(sample, expected_data, "Likelihood")
        if kinks is not None and not isinstance(kinks, Mapping):
            raise TypeError(f'kinks are places by the names of parameters, as in {{"alpha": 0.0}}; got {kinks!r}')
        self.nll, self._sample, self._expected_data, self.events = nll, sample, expected_data, events
        places = lambda at: jnp.ravel(jnp.asarray(at, float))  # noqa: E731
        self.kinks = None if kinks is None else {name: places(at) for name, at in kinks.items()}

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        return jnp.asarray(self.nll(resolve(params), data))

    @property
    def is_plain(self) -> bool:
        """Whether nothing is known beside the function."""
        return True

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: of the rows of the data, or the second derivative."""
        return spread_of(self, treatment(self, data, "")[0], at, x, x, data).matrix
