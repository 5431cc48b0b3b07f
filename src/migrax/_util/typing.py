"""Types for annotations, beside the shapes of jaxtyping."""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    PyTree: TypeAlias = Any  # the one of jaxtyping has an unknown type for type checkers, as has all that holds it
else:
    from jaxtyping import PyTree as PyTree
