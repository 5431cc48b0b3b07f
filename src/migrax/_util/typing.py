"""What annotations use beside jaxtyping's shapes."""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    PyTree: TypeAlias = Any  # to type checkers jaxtyping's is of unknown type, and so is all that holds one
else:
    from jaxtyping import PyTree as PyTree
