"""The parameters of a card: starts, bounds, and what is measured of them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ..._parameters.parameter import Parameter
from ..histfactory.auxiliary import Auxiliary
from ..histfactory.layout import Layout
from .card import Card, Systematic


class Need(NamedTuple):
    """A parameter of one number, or of the bins of a channel (`fixed` then says which are used).

    - `widths`: the standard deviations below and above, of a normal measurement. `is_poisson`: the parameter is the
        expectation of a count. `measured`: what was measured.
    """

    start: float = 0.0
    lower: float = -np.inf
    upper: float = np.inf
    widths: tuple[float, float] | None = None
    is_poisson: bool = False
    measured: float = 0.0
    fixed: np.ndarray | bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.fixed)

    @property
    def is_measured(self) -> bool:
        return self.is_poisson or self.widths is not None

    def parameter(self) -> Parameter:
        """An `mx.Parameter`."""
        lower, upper = (jnp.full(self.shape, x) if np.isfinite(x) else None for x in (self.lower, self.upper))
        return Parameter(jnp.full(self.shape, self.start, float), lower, upper, fixed=np.asarray(self.fixed))


def needs_of(card: Card) -> dict[str, Need]:
    """Those of systematics, rateParams and extArgs. **Raises:** `ValueError` for two that do not fit together."""
    needs: dict[str, Need] = {}
    for systematic in card.systematics:
        need = _of_systematic(systematic)
        old = needs.get(systematic.name)
        if systematic.kind == "param" and systematic.name in card.scalars:
            old = None
        if old is not None and old.is_measured != need.is_measured:
            raise card.error(systematic.line, f"{systematic.name} has another constraint at an earlier line")
        if old is None or systematic.kind == "param":
            needs[systematic.name] = need
    for name, scalar in card.scalars.items():
        if scalar.names is None and name not in needs:
            lower, upper = (-np.inf, np.inf) if scalar.bounds is None else scalar.bounds
            start = float(scalar.text)
            if not lower <= start <= upper:
                raise card.error(scalar.line, f"the value {start:g} of {name} is not in its range")
            needs[name] = Need(start, lower, upper, fixed=scalar.is_fixed)
    return {name: need._replace(fixed=True) if name in card.frozen else need for name, need in needs.items()}


def _of_systematic(systematic: Systematic) -> Need:
    kind, args = systematic.kind, systematic.args
    if kind == "gmN":
        count = float(args[0])
        return Need(count if count > 0 else 1.0, 0.0, is_poisson=True, measured=count)
    if kind == "unif":
        low, high = float(args[0]), float(args[1])
        return Need(0.5 * (low + high), low, high)
    if kind == "lnU" or kind.rstrip("?").endswith("U"):
        return Need(0.0, -1.0, 1.0)
    if kind == "trG":
        return Need(0.0, *_truncated(systematic), widths=(1.0, 1.0))
    if kind != "param":
        return Need(widths=(1.0, 1.0))
    mean, widths = float(args[0]), [float(part.lstrip("+-")) for part in args[1].split("/")]
    low, high = (-np.inf, np.inf) if len(args) < 3 else map(float, args[2].strip("[]").split(","))
    return Need(min(max(mean, low), high), low, high, widths=(widths[0], widths[-1]), measured=mean)


def _truncated(systematic: Systematic) -> tuple[float, float]:
    """The range in which no factor 1 + effect theta is negative."""
    effects = [float(effect) for effect in systematic.effects.values() if not isinstance(effect, tuple)]
    low = max((-1 / effect for effect in effects if effect > 0), default=-np.inf)
    return low, min((-1 / effect for effect in effects if effect < 0), default=np.inf)


def auxiliary(needs: dict[str, Need], layout: Layout) -> Auxiliary:
    """The measurements of all parameters that have one."""
    normal = [name for name, need in needs.items() if need.widths is not None]
    poisson = [name for name, need in needs.items() if need.is_poisson]
    spread = lambda name, side: np.full(needs[name].shape, needs[name].widths[side]).ravel()  # noqa: E731  # pyright: ignore[reportOptionalSubscript]
    below, above = (np.concatenate([np.zeros(0), *(spread(name, side) for name in normal)]) for side in (0, 1))
    return Auxiliary(
        widths=jnp.asarray(above),
        scales=jnp.ones(len(poisson)),
        layout=layout,
        normal=tuple(normal),
        poisson=tuple(poisson),
        idle=sum(int(np.sum(need.fixed)) for need in needs.values() if need.is_measured),
        below=None if np.array_equal(below, above) else jnp.asarray(below),
    )


def measured(needs: dict[str, Need]) -> dict[str, jnp.ndarray]:
    """The measured values."""
    return {name: jnp.full(need.shape, need.measured, float) for name, need in needs.items() if need.is_measured}
