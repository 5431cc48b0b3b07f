"""Arrays that are part of a program, not numbers that move: positions, edges. Compared by content, and hashed once."""

import numpy as np
from jaxtyping import Shaped


class Table:
    """A constant NumPy array that can be a static field."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: Shaped[np.ndarray, "..."]):
        self.array: np.ndarray = np.ascontiguousarray(array)
        self.array.flags.writeable = False
        self._hash = hash((self.array.shape, self.array.dtype.str, self.array.tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Table) and self._hash == other._hash and np.array_equal(self.array, other.array)

    def __repr__(self) -> str:
        return f"Table(shape={self.array.shape})"
