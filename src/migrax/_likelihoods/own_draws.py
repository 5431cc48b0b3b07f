"""Likelihoods whose toys and Asimov data are drawn by functions of the user."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array

from .._hints.calls import check_callable
from .._parameters.resolve import resolve
from .base import AbstractLikelihood


class AbstractWithOwnDraws(AbstractLikelihood):
    """A likelihood whose `sample(params, key)` and `expected_data(params)` are the user's functions, or `None`."""

    _sample: eqx.AbstractVar[Callable[[Any, Array], Any] | None]
    _expected_data: eqx.AbstractVar[Callable[[Any], Any] | None]

    @property
    def sample(self) -> Callable[..., Any] | None:
        """`sample(params, key, data=None)`: one toy; `None` if none was given."""
        function = self._sample
        return None if function is None else lambda params, key, data=None: function(resolve(params), key)

    @property
    def expected_data(self) -> Callable[..., Any] | None:
        """`expected_data(params, data=None)`: the Asimov data; `None` if none was given."""
        function = self._expected_data
        return None if function is None else lambda params, data=None: function(resolve(params))


def check_draws(sample: Any, expected_data: Any, what: str) -> None:
    """**Raises:** `TypeError` for functions that cannot be called this way."""
    if sample is not None:
        check_callable(sample, f"sample of {what}", "sample(params, key)")
    if expected_data is not None:
        check_callable(expected_data, f"expected_data of {what}", "expected_data(params)")
