"""The parameters, the minimum and the errors of MINOS of a `Minuit`: plain records that print the same tables as
results."""

import dataclasses
import math
import operator
from typing import Any

from ..._display import html, minos, records, text
from ..._parameters.names import unknown_name


@dataclasses.dataclass(frozen=True)
class Param:
    """One number of the fit. `error` is NaN if unknown; limits are `None` if there is none."""

    number: int
    name: str
    value: float
    error: float
    merror: tuple[float, float] | None
    is_fixed: bool
    lower_limit: float | None
    upper_limit: float | None
    is_at_limit: bool

    @property
    def has_limits(self) -> bool:
        return self.has_lower_limit or self.has_upper_limit

    @property
    def has_lower_limit(self) -> bool:
        return self.lower_limit is not None

    @property
    def has_upper_limit(self) -> bool:
        return self.upper_limit is not None

    def row(self) -> records.Row:
        error = None if self.is_fixed or math.isnan(self.error) else self.error
        merror = None if self.merror is None or all(map(math.isnan, self.merror)) else self.merror
        return records.Row(
            self.name, self.value, error, merror, self.lower_limit, self.upper_limit, self.is_fixed, self.is_at_limit
        )


class Params(tuple[Param, ...]):
    """The parameters as a tuple, which is indexed by names too, and prints as a table."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        """**Raises:** `ValueError` for an unknown name, `IndexError` for a number."""
        if isinstance(key, str):
            names = [p.name for p in self]
            if key not in names:
                raise ValueError(unknown_name(key, names))
            key = names.index(key)
        return super().__getitem__(key)

    def __repr__(self) -> str:
        return text.parameters_text([p.row() for p in self])

    def _repr_html_(self) -> str:
        return html.parameters_html([p.row() for p in self])


@dataclasses.dataclass(frozen=True)
class MError:
    """The errors of MINOS of one parameter, signed, and the outcome of the search for each. `lower` and `upper` are NaN
    if it failed; at a limit they reach up to it."""

    number: int
    name: str
    lower: float
    upper: float
    lower_valid: bool
    upper_valid: bool
    at_lower_limit: bool
    at_upper_limit: bool
    lower_new_min: bool
    upper_new_min: bool

    @property
    def is_valid(self) -> bool:
        return self.lower_valid and self.upper_valid

    def sides(self) -> minos.Sides:
        new = (self.lower_new_min, self.upper_new_min)
        valid = (self.lower_valid, self.upper_valid)
        failed = (not valid[0] and not new[0], not valid[1] and not new[1])
        limits = (self.at_lower_limit, self.at_upper_limit)
        return minos.Sides(self.name, (self.lower, self.upper), valid, limits, failed, new)


class MErrors(dict[str, MError]):
    """The errors of MINOS by name, or by their number among the requested ones; prints as a table."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> MError:
        """**Raises:** `KeyError` for a parameter whose errors were not requested, `IndexError` for such a number."""
        if not isinstance(key, str):
            return list(self.values())[operator.index(key)]
        if key not in self:
            raise KeyError(f"no MINOS errors of {key!r}: minos({key!r}) finds them")
        return super().__getitem__(key)

    def __repr__(self) -> str:
        return minos.minos_text([e.sides() for e in self.values()])

    def _repr_html_(self) -> str:
        return minos.minos_html([e.sides() for e in self.values()])


@dataclasses.dataclass(frozen=True)
class FMin:
    """The outcome of the last minimisation, with iminuit's names; prints as a box.

    `record` is the content of the box, `message` describes the outcome in words. `nfcn`, `ngrad` and `nhessian` count
    the calls of this minimisation alone.
    """

    record: records.Minimum
    errordef: float

    @property
    def algorithm(self) -> str:
        return self.record.algorithm

    @property
    def message(self) -> str:
        return self.record.message

    @property
    def fval(self) -> float:
        return self.record.nll

    @property
    def edm(self) -> float:
        return self.record.edm

    @property
    def edm_goal(self) -> float:
        return self.record.edm_goal

    @property
    def reduced_chi2(self) -> float:
        """chi2 over the degrees of freedom, `ndof`; for likelihoods of counts the deviance of `mx.goodness_of_fit` over
        these. NaN if the likelihood has no saturated model or does not know the number of its data."""
        return math.nan if self.record.chi2_ndof is None else self.record.chi2_ndof

    @property
    def is_valid(self) -> bool:
        return self.record.valid

    @property
    def has_parameters_at_limit(self) -> bool:
        return self.record.at_limit

    @property
    def has_reached_call_limit(self) -> bool:
        return self.record.at_call_limit

    @property
    def is_above_max_edm(self) -> bool:
        return self.record.edm_above

    @property
    def has_covariance(self) -> bool:
        return self.has_posdef_covar

    @property
    def has_posdef_covar(self) -> bool:
        return self.record.covariance in ("exact", "elsewhere")

    @property
    def has_accurate_covar(self) -> bool:
        """Whether there is a covariance, which is always that of exact second derivatives."""
        return self.has_posdef_covar

    @property
    def hesse_failed(self) -> bool:
        return not self.has_posdef_covar

    @property
    def nfcn(self) -> int:
        return self.record.num_values

    @property
    def ngrad(self) -> int:
        return self.record.num_gradients

    @property
    def nhessian(self) -> int:
        return self.record.num_hessians

    def __repr__(self) -> str:
        return text.minimum_text(self.record)

    def _repr_html_(self) -> str:
        return html.minimum_html(self.record)
