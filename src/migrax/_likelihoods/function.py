"""`Likelihood`: a plain function with the methods that toys and Asimov data need."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Scalar

from .._hints.calls import check_callable
from .._parameters.resolve import resolve
from .._util.typing import PyTree
from .own_draws import AbstractWithOwnDraws, check_draws
from .spread import At, spread_of, treatment


class Likelihood(AbstractWithOwnDraws):
    """A plain function `nll(params, data)` as a likelihood, with the methods that toys and Asimov data need.

    ```python
    nll = mx.Likelihood(lambda p, d: 0.5 * (d - p["mu"]) ** 2, sample=lambda p, key: p["mu"] + jax.random.normal(key))
    toys = mx.sample(nll, params, jax.random.key(0), 1000)
    ```

    **Arguments:**

    - `nll`: `nll(params, data) -> scalar`, minus log L.
    - `sample`: `sample(params, key) -> data`, one toy.
    - `expected_data`: `expected_data(params) -> data`, the Asimov data.
    - `events`: how the robust covariance is computed (`hesse="sandwich"`, and together with weighted events): `True` if
        `nll` is a sum over rows of the data that are events, weighted or not: the squares of their slopes are then
        added. `False` for counts, or a measurement whose errors the likelihood includes: the covariance of the slope is
        then the second derivative. Default: `True` if there are ten or more rows whose terms add up to `nll`.
    - `kinks`: where the slope of `nll` jumps, as that of `jnp.abs`, `jnp.maximum` or `jnp.where` does: for the name of
        a parameter one position or a list of positions, as in `{"alpha": 0.0}`. A fit that ends or starts at a declared
        kink can be valid.

    The functions are called with the resolved parameters.

    **Raises:** `TypeError` for functions that cannot be called this way; `ValueError`, in a fit, for kinks of an
    unknown parameter.
    """

    nll: Callable[[Any, Any], ArrayLike]
    kinks: dict[str, Array] | None
    _sample: Callable[[Any, Array], Any] | None
    _expected_data: Callable[[Any], Any] | None
    events: bool | None = eqx.field(static=True)
    is_plain = True

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
        as_vector = lambda at: jnp.ravel(jnp.asarray(at, float))  # noqa: E731
        self.kinks = None if kinks is None else {name: as_vector(at) for name, at in kinks.items()}

    def __call__(self, params: PyTree, data: Any) -> Scalar:
        return jnp.asarray(self.nll(resolve(params), data))

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Any) -> Float[Array, "n n"]:
        """J of the sandwich: from the rows of the data, or the second derivative."""
        return spread_of(self, treatment(self, data, "")[0], at, x, x, data).matrix
