"""What all likelihoods of migrax share: they are called as `nll(params, data)`, and `+` joins them."""

import abc
from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx
from jaxtyping import Array, Float, Scalar

from .._hints.calls import refuse_data
from .._util.typing import PyTree
from .spread import At, information


class AbstractLikelihood(eqx.Module):
    """Minus the log of a likelihood, in units in which an error is a rise by 1/2.

    A final class may bring more, where it means something:

    - `sample(params, key, data=None)`: data drawn at `params`; `data` says what is not drawn (the number of events, the
        coordinates of points).
    - `expected_data(params, data=None)`: the Asimov data, whose fit gives `params`.
    - `prediction(params, data=None)`: what the model expects of each number of the data.
    - `pulls(params, data)`: (observed - expected) / standard deviation, for pictures.
    - `deviance(params, data)`: twice the likelihood above that of the saturated model, for `mx.goodness_of_fit`.
    - `ndata(data)`: how many numbers the data are, of those that count.
    - `is_constraint`: whether it is a measurement of parameters.
    - `residuals`: a function of params and data, half of whose sum of squares the likelihood is, or `None`.
    - `faults(params, data)`: `Fault` numbers for messages.
    - `draws_all`: `False` where toys leave something out that the likelihood has an error for.
    - `complaints(params, data)`: sentences of which `mx.fit` warns, where it is not traced.
    - `varying(params, data)` and `constant(data)`, whose sum the value is: a fit walks on the first alone, which is
        cheaper and loses no digits to the other.
    - `kinks`: the places where the slope of the likelihood jumps, by the names of parameters, or `None`. A minimum may
        lie there though no derivative is zero.
    - `prefit(params, data)`: names, values and errors of constrained parameters.
    - `unlabelled()`: the same without names that no program depends on, so that those that differ in them share one.
    """

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


def _joined(left: Any, right: Any) -> AbstractLikelihood:
    from .joint import Joint

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
