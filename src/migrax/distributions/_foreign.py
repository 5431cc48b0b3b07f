"""One interface to distributions of this package and of other libraries, which need a `log_prob`."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .._util.unavailable import Unavailable
from ._ranges import bin_ends


def check_density(d: Any, what: str) -> None:
    """**Raises:** `TypeError` unless `d` is an object with a `log_prob`."""
    if isinstance(d, type):
        raise TypeError(f"{what} is the class {d.__name__}, not a distribution: give it its parameters")
    if not callable(getattr(d, "log_prob", None)):
        raise TypeError(
            f"{what} must be a distribution with a log_prob (of mx.distributions, numpyro, TFP, ...), "
            f"got {type(d).__name__}"
        )


def event_shape(d: Any) -> tuple[int, ...]:
    """The shape of one event: () for one observable."""
    return tuple(getattr(d, "event_shape", ()))


def has_total(d: Any) -> bool:
    """Whether it says how many events are expected, by its `total`."""
    return hasattr(type(d), "total") and bool(getattr(d, "extended", True))


def log_integral(d: Any, low: ArrayLike, high: ArrayLike, what: str) -> Array:
    """`d.log_integral(low, high)`. **Raises:** `TypeError` if `d` has no `log_integral`."""
    if not callable(getattr(d, "log_integral", None)):
        raise Unavailable(
            f"{what} is a {type(d).__name__} of {type(d).__module__}, which has no log_integral(low, high): its "
            "probability in a bin is not known. Use the distribution of mx.distributions, or "
            "mx.distributions.Normalized(d.log_prob, low, high)"
        )
    return d.log_integral(low, high)


def log_bin_integrals(d: Any, edges: ArrayLike, what: str) -> Array:
    """`d.log_bin_integrals(edges)`, or its `log_integral` between the ends of the bins. **Raises:** `TypeError` if `d`
    has neither; `ValueError` unless the edges increase."""
    if callable(getattr(d, "log_bin_integrals", None)):
        return d.log_bin_integrals(edges)
    low, high = bin_ends(edges)
    return log_integral(d, jnp.asarray(low), jnp.asarray(high), what)


def sample(d: Any, key: Array, shape: tuple[int, ...]) -> Array:
    """Random numbers of `d`, by the signature of its library: `sample(sample_shape, seed=key)` (TFP, distrax),
    `sample(key, sample_shape=shape)` (numpyro) or `sample(key, shape)` (migrax).

    **Raises:** `TypeError` if it has no `sample`.
    """
    if not callable(getattr(d, "sample", None)):
        raise Unavailable(f"{type(d).__name__} has no sample")
    names = inspect.signature(d.sample).parameters
    if "seed" in names:
        return d.sample(sample_shape=shape, seed=key)
    if "sample_shape" in names:
        return d.sample(key, sample_shape=shape)
    return d.sample(key, shape)


def lanes_of(d: Any) -> tuple[int, ...]:
    """The shape of the parameters of `d`."""
    shape = jax.eval_shape(lambda: sample(d, jax.random.key(0), ())).shape
    return shape[: len(shape) - len(event_shape(d))]


def sample_lanes(d: Any, key: Array, shape: tuple[int, ...], lanes: tuple[int, ...]) -> Array:
    """Independent random numbers of shape `(*shape, *lanes, *event)`, where the shape of the parameters of `d`
    broadcasts to `lanes`."""
    batch = lanes_of(d)
    batch = (1,) * (len(lanes) - len(batch)) + batch
    broadcast = [i for i, (size, full) in enumerate(zip(batch, lanes, strict=True)) if size != full]
    extra = tuple(lanes[i] for i in broadcast)
    kept = tuple(size for i, size in enumerate(batch) if i not in broadcast)
    draws = sample(d, key, (*shape, *extra)).reshape(*shape, *extra, *kept, *event_shape(d))
    first = len(shape)
    return jnp.moveaxis(draws, [first + j for j in range(len(broadcast))], [first + i for i in broadcast])
