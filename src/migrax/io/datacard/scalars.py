"""What is derived from parameters that are numbers: formulas, functions of parameters of interest, 1 + effect theta."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._util.table import Table
from ..hs3.expression import Expression


class Derived(NamedTuple):
    """A number with a name: an expression of other names, or a function of a dictionary of parameters of interest."""

    name: str
    how: Expression | Callable[[dict[str, Any]], Any]


class Scalars(eqx.Module):
    """Extends the vector of parameters.

    - `effects`, `at`: factors 1 + effect theta (trG, unif), with the positions of theta.
    - `derived`: in an order in which each needs those before it. `names`: of all parameters that are numbers, in the
        order of the vector; `pois`: those of interest; `constants`: other names in formulas, as MH.
    """

    effects: Float[Array, " m"]
    at: Table = eqx.field(static=True)
    derived: tuple[Derived, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    pois: tuple[str, ...] = eqx.field(static=True)
    constants: tuple[tuple[str, float], ...] = eqx.field(static=True)

    def __call__(self, numbers: Float[Array, " k"]) -> Float[Array, " e"]:
        """The parameters, the factors 1 + effect theta, what is derived, and a 1."""
        linear = 1 + self.effects.astype(numbers.dtype) * numbers[self.at.array]
        parts = [numbers, linear]
        if self.derived:
            parts.append(jnp.stack(self._derived(numbers)))
        return jnp.concatenate([*parts, jnp.ones(1, numbers.dtype)])

    def _derived(self, numbers: Float[Array, " k"]) -> list[Array]:
        position = {name: i for i, name in enumerate(self.names)}
        known: dict[str, Any] = {name: jnp.asarray(value, numbers.dtype) for name, value in self.constants}

        def value_of(name: str) -> Any:
            if name not in known:
                known[name] = numbers[position[name]]
            return known[name]

        values = []
        for name, how in self.derived:
            if isinstance(how, Expression):
                value = how.value(value_of)
            else:
                value = jnp.asarray(how({poi: value_of(poi) for poi in self.pois}))
                if value.shape != ():
                    raise ValueError(f"what scales processes by {name} must be a number, got the shape {value.shape}")
            known[name] = value.astype(numbers.dtype)
            values.append(known[name])
        return values


def ordered(derived: dict[str, Derived], known: set[str]) -> tuple[Derived, ...]:
    """In an order in which each needs those before it.

    **Raises:** `ValueError` for names that are not known, and for circles.
    """
    out: list[Derived] = []
    left = dict(derived)
    done = set(known)
    while left:
        ready = [name for name, how in left.items() if needed(how) <= done]
        if not ready:
            name, how = next(iter(left.items()))
            missing = sorted(needed(how) - done)
            problem = "which need each other" if set(missing) <= set(left) else "which is no parameter"
            raise ValueError(f"{name} needs {', '.join(missing)}, {problem}")
        for name in ready:
            out.append(left.pop(name))
            done.add(name)
    return tuple(out)


def needed(derived: Derived) -> set[str]:
    """The names that an expression needs; none of a function, which has the parameters of interest."""
    return set(derived.how.names) if isinstance(derived.how, Expression) else set()


def linear_factors(pairs: list[tuple[int, float]]) -> tuple[Array, Table]:
    """From the positions of parameters and their effects."""
    return jnp.asarray(np.array([effect for _, effect in pairs], float)), Table(np.array([at for at, _ in pairs], int))
