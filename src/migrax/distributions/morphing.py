"""Histograms that depend on a parameter."""

from collections.abc import Sequence
from typing import cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._util.logs import log
from .._util.tracing import is_concrete
from ._base import AbstractDistribution
from ._piecewise import growing
from .histogram import HistogramTemplate


class Morph(AbstractDistribution):
    """The histogram interpolated between templates at anchor points of a parameter, bin by bin ("vertical" morphing).

    ```python
    up, nominal, down = (mx.distributions.HistogramTemplate(c, edges) for c in (up, nominal, down))
    mx.PoissonNLL(lambda p: mx.distributions.Morph([down, nominal, up], [-1.0, 0.0, 1.0], p["scale"]).counts)
    ```

    Between two anchors the contents are interpolated linearly, or exponentially with `log=True` (HistFactory's
    interpolation codes 0 and 1: K. Cranmer et al., CERN-OPEN-2012-016). Beyond the outer anchors the outermost line or
    exponential is extrapolated, as in HistFactory. A content that the extrapolation would make negative is 0, with
    derivatives 0, as in ROOT (exponentials stay positive). At the anchors the slope jumps: the derivative there is the
    one on the upper side.

    As a distribution it describes the shape; its normalisation is `total`, which also depends on the parameter.
    """

    templates: Array
    at: Array
    parameter: Array
    edges: Array
    log: bool = eqx.field(static=True)

    def __init__(self, templates: Sequence[HistogramTemplate], at: ArrayLike, parameter: ArrayLike, log: bool = False):
        """**Arguments:**

        - `templates`: at least two histograms, with the same edges.
        - `at`: the values of the parameter at the templates, increasing.
        - `parameter`: its value; an array of any shape makes as many histograms.
        - `log`: interpolate the logs of the contents. A bin must then be filled in all templates or in none.

        **Raises:** `TypeError` for anything but templates; `ValueError` if numbers, edges or order do not match.
        """
        templates = list(templates)
        for k, template in enumerate(templates):
            if not isinstance(template, HistogramTemplate) or template.counts.ndim != 1:
                raise TypeError(f"template {k} must be one HistogramTemplate(counts, edges), got {template!r}")
        self.at = growing(at, "the anchors")
        if len(templates) != self.at.size:
            raise ValueError(f"{len(templates)} templates need as many anchors, got {self.at.size}")
        self.edges = templates[0].edges
        for k, template in enumerate(templates):
            same = template.edges.shape == self.edges.shape
            if same and is_concrete(template.edges, self.edges):
                same = np.array_equal(template.edges, self.edges)
            if not same:
                raise ValueError(f"the edges of template {k} are not those of template 0")
        self.templates = jnp.stack([template.counts for template in templates])
        self.parameter, self.log = cast(Array, parameter), log
        if log and is_concrete(self.templates):
            filled = np.asarray(self.templates) > 0
            partly_filled = np.any(filled, axis=0) & ~np.all(filled, axis=0)
            if np.any(partly_filled):
                raise ValueError(
                    f"with log=True bin {int(np.argmax(partly_filled))} must be filled in all templates, or in none"
                )

    @property
    def counts(self) -> Float[Array, "... n"]:
        """The contents of the bins."""
        parameter = jnp.asarray(self.parameter)
        piece = jnp.clip(jnp.searchsorted(self.at, parameter, side="right") - 1, 0, self.at.size - 2)
        below, above = self.at[piece], self.at[piece + 1]
        t = ((parameter - below) / (above - below))[..., None]
        low, high = self.templates[piece], self.templates[piece + 1]
        if self.log:
            always_empty = jnp.all(self.templates == 0, axis=0)
            a, b = (log(jnp.where(always_empty, 1.0, contents)) for contents in (low, high))
            return jnp.where(always_empty, 0.0, jnp.exp(a + t * (b - a)))
        contents = low + t * (high - low)
        return jnp.where(contents < 0, 0.0, contents)

    @property
    def total(self) -> Float[Array, "..."]:
        """The sum of the contents."""
        return jnp.sum(self.counts, axis=-1)

    @property
    def template(self) -> HistogramTemplate:
        """The histogram at this value of the parameter."""
        return HistogramTemplate(self.counts, self.edges)

    def log_prob(self, x: ArrayLike) -> Float[Array, "..."]:
        """The log of the density at `x`; -inf outside the histogram and in empty bins."""
        return self.template.log_prob(x)

    def log_integral(self, low: ArrayLike, high: ArrayLike) -> Float[Array, "..."]:
        """The log of the probability between `low` and `high`, which may cut bins."""
        return self.template.log_integral(low, high)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Random numbers of the given shape, followed by that of the parameter."""
        return self.template.sample(key, shape)
