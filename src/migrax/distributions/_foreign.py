"""Densities that components may be: ours, and those of other libraries that have a `log_prob`."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike


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


def log_integral(d: Any, low: ArrayLike, high: ArrayLike, what: str) -> Array:
    """**Raises:** `TypeError` if `d` has no `log_integral`."""
    if not callable(getattr(d, "log_integral", None)):
        raise TypeError(
            f"{what} is a {type(d).__name__} of {type(d).__module__}, which has no log_integral(low, high): its "
            "probability in a bin is not known. Use the distribution of mx.distributions, or "
            "mx.distributions.Normalized(d.log_prob, low, high)"
        )
    return d.log_integral(low, high)


def sample(d: Any, key: Array, shape: tuple[int, ...]) -> Array:
    """Random numbers of `d`, however its library has it: `sample(sample_shape, seed=key)` (TFP, distrax),
    `sample(key, sample_shape=shape)` (numpyro) or `sample(key, shape)` (ours).

    **Raises:** `TypeError` if it has no `sample`.
    """
    if not callable(getattr(d, "sample", None)):
        raise TypeError(f"{type(d).__name__} has no sample")
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
    """Random numbers of shape `(*shape, *lanes, *event)`, where the shape of the parameters of `d` broadcasts to
    `lanes`; all of them independent."""
    own = lanes_of(d)
    own = (1,) * (len(lanes) - len(own)) + own
    missing = [i for i, (size, wanted) in enumerate(zip(own, lanes, strict=True)) if size != wanted]
    extra = tuple(lanes[i] for i in missing)
    kept = tuple(size for i, size in enumerate(own) if i not in missing)
    draws = sample(d, key, (*shape, *extra)).reshape(*shape, *extra, *kept, *event_shape(d))
    first = len(shape)
    return jnp.moveaxis(draws, [first + j for j in range(len(missing))], [first + i for i in missing])
