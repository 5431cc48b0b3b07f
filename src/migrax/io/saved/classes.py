"""The classes of a file by their names, and functions and classes of the user's by module and name."""

import dataclasses
import enum
import functools
import sys
from typing import Any

import equinox as eqx

from ... import distributions
from ..._fit.covariance import Covariance
from ..._fit.estimate import Estimate
from ..._fit.result import FitResult, Note
from ..._hypotest.discovery import Discovery
from ..._hypotest.hypotest import HypoTest
from ..._hypotest.interval import Interval
from ..._hypotest.limit import UpperLimit
from ..._hypotest.look_elsewhere import LookElsewhere
from ..._hypotest.statistics import StatisticValue
from ..._hypotest.toys import ToyStatistics, ToyTest
from ..._parameters.parameter import Parameter
from ..._profile.contour import Contour
from ..._profile.impacts import Impacts
from ..._profile.minos import Minos
from ..._profile.profile import Profile
from ..._studies.bias import Bias
from ..._studies.bootstrap import Bootstrap
from ..._studies.coverage import Coverage, CoverageStudy
from ..._studies.pulls import PullStudy
from ..._toys.goodness_of_fit import GoodnessOfFit

RESULTS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        FitResult, Covariance, Estimate, Minos, Profile, Contour, Impacts, GoodnessOfFit, HypoTest,
        Discovery, UpperLimit, Interval, LookElsewhere, StatisticValue, ToyTest, ToyStatistics, PullStudy,
        CoverageStudy, Coverage, Bias, Bootstrap,
    )
}  # fmt: skip

# Which fields are trees of the user's, and their names in a file.
TREES: dict[type[Any], dict[str, str]] = {
    FitResult: {"_params": "params"},
    StatisticValue: {"conditional": "conditional"},
}

# Fields of older files, and their names now; several names for a field that held a named tuple or `None`.
OLDER_FIELDS: dict[type[Any], dict[str, str | tuple[str, ...]]] = {
    HypoTest: {"errors": ("p_sb_error", "p_b_error", "cls_error", "expected_p_sb_error", "expected_cls_error")},
    UpperLimit: {"error": "observed_error"},
    **{kind: {"failed": "num_failed"} for kind in (LookElsewhere, PullStudy, CoverageStudy, Bias, Bootstrap)},
}


@functools.cache
def known() -> dict[str, type[Any]]:
    """The classes of migrax that a file may name: results, what stands in them, and what a tree of parameters may be
    made of."""
    densities = {
        f"distributions.{name}": thing
        for name, thing in vars(distributions).items()
        if not name.startswith("_") and isinstance(thing, type) and issubclass(thing, eqx.Module)
    }
    return {**RESULTS, "Note": Note, "Parameter": Parameter, **densities}


@functools.cache
def _public_names() -> dict[type[Any], str]:
    return {kind: name for name, kind in known().items()}


def name_of(thing: Any) -> str | dict[str, str] | None:
    """How a file names a class or a function: one of migrax's by its public name, others by module and qualified name.
    `None` for what is not found there again: local ones, lambdas, and what belongs to Python itself."""
    if isinstance(thing, type) and thing in _public_names():
        return _public_names()[thing]
    module, name = (getattr(thing, attribute, None) for attribute in ("__module__", "__qualname__"))
    if not isinstance(module, str) or not isinstance(name, str) or _of_python(module):
        return None
    return {"module": module, "name": name} if _found(module, name) is thing else None


def named(reference: Any) -> Any:
    """The class or function of that name, if its module is imported already: nothing is imported, nothing is called.

    **Raises:** `LookupError` that says what is not there.
    """
    if isinstance(reference, str):
        if reference not in known():
            raise LookupError(f"migrax has no class {reference!r}")
        return known()[reference]
    if not isinstance(reference, dict) or not all(isinstance(reference.get(k), str) for k in ("module", "name")):
        raise LookupError(f"{reference!r} names nothing")
    found = _found(reference["module"], reference["name"])
    if found is None or name_of(found) != reference:
        raise LookupError(f"{reference['name']!r} of the module {reference['module']!r} is not imported")
    return found


def _found(module: str, name: str) -> Any:
    thing: Any = sys.modules.get(module)
    for part in name.split("."):
        if thing is None:
            return None
        thing = vars(thing).get(part) if hasattr(thing, "__dict__") else None
    return thing


def _of_python(module: str) -> bool:
    # a file must not be able to put `os.system` where a model has a function of its own
    return module != "__main__" and module.partition(".")[0] in sys.stdlib_module_names


def is_record(kind: Any) -> bool:
    """Whether its instances are their fields and nothing else: modules of Equinox, dataclasses."""
    return isinstance(kind, type) and (issubclass(kind, eqx.Module) or dataclasses.is_dataclass(kind))


def is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
