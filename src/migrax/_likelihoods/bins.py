"""The expectation in bins of a distribution that depends on the parameters."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._hints.calls import check_callable
from .._util.table import Table
from .._util.tracing import is_concrete
from ..distributions import _foreign
from ..distributions._ranges import bin_ends
from .unbinned import distribution_of


class LogExpected(eqx.Module):
    """`log_expected(params)`: the logs of the probabilities of bins, times the expected number of events unless only
    the shape counts."""

    distribution: Callable[[Any], Any]
    total: Callable[[Any], ArrayLike] | None
    # known edges are no numbers of the model: what is made of them alone is computed once
    known: Table | None = eqx.field(static=True)
    traced: Array | None
    shape_only: bool = eqx.field(static=True)
    owner: str = eqx.field(static=True)

    def __init__(self, distribution: Any, total: Any, edges: ArrayLike, shape_only: bool, owner: str):
        """**Raises:** `TypeError` for functions that cannot be called with the parameters; `ValueError` for edges that
        do not increase."""
        check_callable(distribution, f"the distribution of {owner}", "distribution(params)")
        if total is not None:
            check_callable(total, f"the total of {owner}", "total(params)")
        bin_ends(edges)
        self.distribution, self.total, self.shape_only, self.owner = distribution, total, shape_only, owner
        self.known = Table(np.array(edges)) if is_concrete(edges) else None
        self.traced = None if is_concrete(edges) else jnp.asarray(edges)

    def _edges(self) -> ArrayLike:
        if self.known is not None:
            return self.known.array
        assert self.traced is not None
        return self.traced

    def __call__(self, params: Any) -> Float[Array, " n"]:
        instance = distribution_of(self.distribution, params)
        edges = self._edges()
        from_instance = not self.shape_only and self.total is None
        if from_instance and _foreign.has_total(instance) and callable(getattr(instance, "log_expected", None)):
            return instance.log_expected(edges)
        logs = _foreign.log_bin_integrals(instance, edges, f"what the distribution of {self.owner} returns")
        if self.shape_only:
            return logs
        if from_instance and not _foreign.has_total(instance):
            raise TypeError(
                f"this {type(instance).__name__} does not say how many events are expected: give {self.owner} a "
                "total(params), or use mx.distributions.Mixture with yields"
            )
        total = jnp.asarray(instance.total if self.total is None else self.total(params))
        if total.shape != ():
            raise ValueError(f"total(params) must return one number, got an array of shape {total.shape}")
        # NaN below 0, and no slope of a log at 0
        return logs + jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1.0, total)))


def log_expected_of(
    log_expected: Any, distribution: Any, edges: ArrayLike | None, total: Any, shape_only: bool, owner: str
) -> Any:
    """`log_expected`, or that of the distribution in the bins. **Raises:** `TypeError` for edges or a total without a
    distribution, a distribution without edges, or both functions."""
    if distribution is None:
        if edges is not None or total is not None:
            raise TypeError(
                f"{owner} takes {'edges' if edges is not None else 'a total'} with distribution=, not alone"
            )
        return log_expected
    if edges is None:
        raise TypeError(f"{owner}(distribution=...) needs edges=, those of the bins")
    if log_expected is not None:
        raise TypeError(f"{owner} takes either log_expected or distribution, not both")
    return LogExpected(distribution, total, edges, shape_only, owner)


def checked_expectation(expected: Any, log_expected: Any, what: str) -> tuple[Any, Any]:
    """The two functions, of which one is `None`.

    **Raises:** `TypeError` unless exactly one is given and can be called with the parameters.
    """
    if (expected is None) == (log_expected is None):
        raise TypeError(f"{what} takes one of expected, log_expected (functions of the parameters) and distribution")
    if expected is not None:
        check_callable(expected, f"the expectation of {what}", "expected(params)")
    else:
        check_callable(log_expected, f"the expectation of {what}", "log_expected(params)")
    return expected, log_expected
