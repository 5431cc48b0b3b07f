"""Landau's standard density and its tails as polynomials, panel by panel, made from their integrals once in a process.

The tables hold what is smooth. With s = exp(-1 - l):

    log phi(l) = R(l) - s,    log cdf(l) = C(l) - s below the middle,    log (1 - cdf(l)) = C(l) above it,

and the derivatives of R up to the fourth. On the left they are less what they are for l to minus infinity, where
R -> -(1 + l) / 2 - log(2 pi) / 2 and C -> (1 + l) / 2 - log(2 pi) / 2; on the right, where R -> -2 log l and
C -> -log l, they are times powers of l.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from numpy.polynomial import chebyshev

from .._host.plan import Plan
from ._landau_path import LOG_WEIGHTS, NODES, path

_DEGREE = 14
LEFT, RIGHT = -6.0, 4.0  # one panel in exp(l) below the first, panels in log(l) above the second
_WIDTH = 0.5  # of the panels between
_HALVES, _OCTAVES = 6, 60  # octaves above the right end in two panels; octaves in all
_EXACT = 32.0  # above it the integral below is taken, whose terms are all positive
MIDDLE = 1.5
NUM_ORDERS = 5  # of R and its derivatives; the table after them is that of C


class Panels(NamedTuple):
    """Where the panels are: the number of those in the middle, and of all."""

    middle: int = round((RIGHT - LEFT) / _WIDTH)
    all: int = 1 + round((RIGHT - LEFT) / _WIDTH) + 2 * _HALVES + _OCTAVES - _HALVES


PANELS = Panels()


def place(xp: Any, x: Any) -> tuple[Any, Any]:
    """The number of the panel in which each point lies, and its place there, from -1 to 1."""
    far = xp.exp(xp.minimum(x, LEFT) - LEFT)
    between = xp.clip((x - LEFT) / _WIDTH, 0.0, float(PANELS.middle))
    octave = xp.clip(xp.log2(xp.maximum(x, RIGHT) / RIGHT), 0.0, _OCTAVES)
    along = xp.where(octave < _HALVES, 2 * octave, octave + _HALVES)
    v = xp.where(x < RIGHT, between, along)
    first = xp.where(x < RIGHT, 1, 1 + PANELS.middle)
    last = xp.where(x < RIGHT, PANELS.middle - 1, PANELS.all - PANELS.middle - 2)
    index = xp.clip(xp.floor(v), 0, last)
    is_left = x < LEFT
    place_in_panel = xp.where(is_left, 2 * far - 1, 2 * (v - index) - 1)
    return xp.where(is_left, 0, first + index.astype(int)), place_in_panel


@functools.cache
def tables() -> Float[np.ndarray, "6 panels 15"]:
    """The coefficients of the polynomials, for the powers of the place in the panel."""
    nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
    points = np.stack([_points(k, nodes) for k in range(PANELS.all)])
    values = _smooth(points.ravel()).reshape(-1, *points.shape)
    to_chebyshev = np.linalg.inv(chebyshev.chebvander(nodes, _DEGREE))
    powers_of = [chebyshev.cheb2poly(row) for row in np.eye(_DEGREE + 1)]
    to_powers = np.stack([np.pad(row, (0, _DEGREE + 1 - row.size)) for row in powers_of])
    return values @ to_chebyshev.T @ to_powers


def _points(k: int, t: np.ndarray) -> np.ndarray:
    """The points of panel `k` at the places `t`."""
    if k == 0:
        return LEFT + np.log(0.5 * (1 + t))
    if k <= PANELS.middle:
        return LEFT + _WIDTH * (k - 1 + 0.5 * (1 + t))
    along = k - 1 - PANELS.middle + 0.5 * (1 + t)
    return RIGHT * 2 ** np.where(along < 2 * _HALVES, 0.5 * along, along - _HALVES)


def _smooth(x: np.ndarray) -> np.ndarray:
    """The functions of the tables, shape `(6, points)`."""
    near = x < _EXACT
    out = np.empty((NUM_ORDERS + 1, x.size))
    out[:, ~near] = _by_powers(x[~near])
    out[:, near] = _along_the_path(x[near])
    left, right = x < LEFT, near & (x >= RIGHT)
    out[0, left] += 0.5 * (1 + x[left])
    out[1, left] += 0.5
    out[-1, left] -= 0.5 * (1 + x[left])
    out[:NUM_ORDERS, right] *= x[right] ** np.arange(NUM_ORDERS)[:, None]
    out[0, right] += 2 * np.log(x[right])
    out[-1, right] += np.log(x[right])
    return out


def _along_the_path(x: np.ndarray) -> np.ndarray:
    """By the path of steepest descent (`_landau_path.py`): log phi and its derivatives are cumulants of s (V - 1)."""
    shapes = jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct((NODES.size, 1), x.dtype)
    with jax.enable_x64(True):  # float32 is no reason for tables of seven digits
        plan = Plan(jax.make_jaxpr(_with_steepness)(*shapes))
    g, rise, log_slope, remainder, steepness = plan(1 + x, NODES[:, None])
    logs = g - rise + log_slope + LOG_WEIGHTS[:, None]
    largest = np.max(logs, axis=0)
    weights = np.exp(logs - largest)
    total = np.sum(weights, axis=0)
    mean = np.sum(weights * rise, axis=0) / total
    second, third, fourth = (np.sum(weights * (rise - mean) ** k, axis=0) / total for k in (2, 3, 4))
    fourth = fourth - 3 * second**2
    r = [
        largest + np.log(total) - np.log(np.pi),
        mean - 1,
        second - mean,
        mean - 3 * second + third,
        -mean + 7 * second - 6 * third + fourth,
    ]
    s, left = np.exp(-1 - x), x < MIDDLE
    with np.errstate(divide="ignore", invalid="ignore"):
        # 1 - cdf by parts: 1 - exp(-s) and the integral of (pi - a) exp(-s V) s dV, which ends where s V does
        of_tail = np.where(left, log_slope, g + np.log(remainder) + np.log(steepness)) - rise
    integral = np.sum(np.exp(of_tail + LOG_WEIGHTS[:, None]), axis=0) / np.pi
    return np.stack([*r, np.log(np.where(left, integral, integral * np.exp(-s) - np.expm1(-s)))])


def _with_steepness(level: Any, t: Any) -> tuple[Any, ...]:
    """The path and the derivative of its first part along it."""
    t = jax.numpy.broadcast_to(t, (t.shape[0], *level.shape))
    out, (steepness, *_) = jax.jvp(lambda t: path(level, t), (t,), (jax.numpy.ones_like(t),))
    return *out, steepness


def _by_powers(x: np.ndarray) -> np.ndarray:
    """By the integrals of u^k exp(-l u - u log u) sin(pi u) / pi, k = -1 for the tail, which is nothing above u = 1:
    times powers of l."""
    v = np.linspace(-41.0, 4.3, 600)[:, None]
    step, t = v[1, 0] - v[0, 0], np.exp(v)  # t = l u
    u = t / x
    density = np.where(u < 1, np.exp(2 * v - t - u * np.log(u)) * np.sinc(np.minimum(u, 1.0)), 0.0) * step
    tail, *m = (np.sum(density * t ** (k - 1), axis=0) for k in range(NUM_ORDERS + 1))
    a, b, c, d = (moment / m[0] for moment in m[1:])  # (-l)^k phi^(k) / phi
    third, fourth = -(c - 3 * a * b + 2 * a**3), d - 4 * a * c - 3 * b**2 + 12 * a**2 * b - 6 * a**4
    return np.stack([np.log(m[0]), -a, b - a**2, third, fourth, np.log(tail)])
