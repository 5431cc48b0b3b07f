"""The shapes of all processes in channels of the same number of bins, with Combine's vertical morphing.

From nominal, lower and upper templates a bin moves by theta/2 ((up - down) + (up + down - 2 nominal) s(theta)), with a
smooth step s from -1 to 1 (`FastVerticalInterpHistPdf2`, `CMSHistFunc`): of shapeN, so do the logs.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._util.table import Table
from .normalisation import smooth_step

_LEAST = 1e-9  # the content to which bins are cropped
_NO_LOG = -999.0  # the log of an empty bin


class Shapes(eqx.Module):
    """`c` channels of `n` bins, up to `s` processes each, moved by up to `h` parameters.

    - `nominal`: the templates, or their logs. `differences`, `sums`: (up - down), (up + down - 2 nominal).
    - `scales`: what multiplies each parameter. `regions`: the end of the smooth step.
    - `at`: the positions of the parameters, shape `(c, s, h)`; 0, with zeros, where a process has fewer.
    - `is_log`, `is_cropped`, `is_normalised`: of each process; the last are those without autoMCStats.
    """

    nominal: Float[Array, "c s n"]
    differences: Float[Array, "c s h n"]
    sums: Float[Array, "c s h n"]
    scales: Float[Array, "c s h"]
    regions: Float[Array, "c s"]
    at: Table = eqx.field(static=True)
    is_log: Table = eqx.field(static=True)
    is_cropped: Table = eqx.field(static=True)
    is_normalised: Table = eqx.field(static=True)

    def __call__(self, numbers: Float[Array, " k"]) -> Float[Array, "c s n"]:
        as_dtype = lambda x: x.astype(numbers.dtype)  # noqa: E731
        shapes = as_dtype(self.nominal)
        if self.at.array.shape[-1]:
            x = as_dtype(self.scales) * numbers[self.at.array]
            step = smooth_step(x / as_dtype(self.regions)[..., None])
            weights = jnp.concatenate([0.5 * x, 0.5 * x * step], axis=-1)
            templates = jnp.concatenate([as_dtype(self.differences), as_dtype(self.sums)], axis=2)
            shapes = shapes + jnp.einsum("csh,cshn->csn", weights, templates)
        if np.any(self.is_log.array):
            is_log = self.is_log.array[..., None]
            shapes = jnp.where(is_log, jnp.exp(jnp.where(is_log, shapes, 0.0)), shapes)
        shapes = jnp.where(self.is_cropped.array[..., None], jnp.maximum(shapes, _LEAST), shapes)
        totals = jnp.where(self.is_normalised.array, jnp.sum(shapes, axis=-1), 1.0)
        return shapes / totals[..., None]


class Morph(NamedTuple):
    """One parameter of a process: its position, its scale, and the templates down and up."""

    at: int
    scale: float
    down: Float[np.ndarray, " n"]
    up: Float[np.ndarray, " n"]


class Shape(NamedTuple):
    """One process. `is_histogram`: not one bin of a counting experiment. `is_normalised`: its yield is elsewhere."""

    nominal: Float[np.ndarray, " n"]
    morphs: list[Morph]
    is_log: bool
    is_histogram: bool
    is_normalised: bool


def shapes_of(channels: list[list[Shape]]) -> Shapes:
    """From the processes of channels with the same number of bins."""
    c, s, n = len(channels), max(map(len, channels)), channels[0][0].nominal.size
    h = max(len(shape.morphs) for channel in channels for shape in channel)
    nominal, regions = np.zeros((c, s, n)), np.ones((c, s))
    differences, sums = np.zeros((2, c, s, h, n))
    scales, at = np.zeros((c, s, h)), np.zeros((c, s, h), int)
    is_log, is_cropped, is_normalised = np.zeros((3, c, s), bool)
    for i, channel in enumerate(channels):
        for j, shape in enumerate(channel):
            total = float(np.sum(shape.nominal)) if shape.is_normalised else 1.0
            center = shape.nominal / total
            nominal[i, j] = _log(center) if shape.is_log else center
            is_log[i, j], is_cropped[i, j] = shape.is_log, shape.is_histogram
            is_normalised[i, j] = shape.is_normalised
            regions[i, j] = min([1.0, *(morph.scale for morph in shape.morphs)])
            for k, morph in enumerate(shape.morphs):
                down, up = (
                    _moved(x / np.sum(x) if shape.is_normalised else x, center, shape.is_log)
                    for x in (morph.down, morph.up)
                )
                differences[i, j, k], sums[i, j, k] = up - down, up + down
                scales[i, j, k], at[i, j, k] = morph.scale, morph.at
    return Shapes(
        *map(jnp.asarray, (nominal, differences, sums, scales, regions)),
        at=Table(at),
        is_log=Table(is_log),
        is_cropped=Table(is_cropped),
        is_normalised=Table(is_normalised),
    )


def _log(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), _NO_LOG)


def _moved(template: np.ndarray, nominal: np.ndarray, is_log: bool) -> np.ndarray:
    if not is_log:
        return template - nominal
    both = (template > 0) & (nominal > 0)
    return np.where(both, np.log(np.where(both, template, 1.0) / np.where(both, nominal, 1.0)), 0.0)
