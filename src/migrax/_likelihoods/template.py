"""Template fits: the templates are histograms of simulated events, with statistical errors."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._hints.calls import check_callable
from .._parameters.resolve import resolve
from .._util.poisson_draw import draw_poisson
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from . import counts as _counts
from .barlow_beeston import barlow_beeston_terms
from .base import AbstractLikelihood
from .counts import Counts, as_counts
from .template_lite import asy_terms, conway_terms, da_terms

METHODS = ("da", "jsc", "asy", "bb")


class _Bins(NamedTuple):
    """The sums over the components."""

    mu: Float[Array, "*bins"]  # expected
    variance: Float[Array, "*bins"]  # of `mu`, from the templates
    exact: Float[Array, "*bins"]  # the part of `mu` without error
    strengths: Float[Array, "k *bins"]  # data events per effective simulated event
    events: Float[Array, "k *bins"]  # effective number of simulated events


def _components(components: Any) -> Any:
    if not isinstance(components, Mapping):
        return components
    return {
        name: part if callable(part) else part if isinstance(part, Counts) else Counts(part)
        for name, part in components.items()
    }


class TemplateNLL(AbstractLikelihood):
    """The likelihood of counts `n` from a mixture of components, whose shapes are known from simulated events only.

    ```python
    nll = mx.TemplateNLL({"signal": simulated_signal, "background": simulated_background})
    mx.fit(nll, {"signal": mx.Parameter(100.0, lower=0.0), "background": mx.Parameter(500.0, lower=0.0)}, counts)
    ```

    The parameters are the yields: the number of events of a component in all bins together. The errors of the fit
    include the statistical errors of the templates, also that of the total number of simulated events: they are errors
    of yield / simulated events, which are larger than those of the yield itself if the simulation is smaller than the
    data. There are four methods:

    - `"da"`: H. Dembinski and A. Abdelmotteleb, Eur. Phys. J. C 82 (2022) 1043: one factor per bin with a Poisson-like
        constraint, profiled in closed form.
    - `"jsc"`: J. S. Conway, PHYSTAT 2011, arXiv:1103.0354: one factor per bin with a normal constraint.
    - `"asy"`: C. A. Argüelles, A. Schneider and T. Yuan, JHEP 06 (2019) 030, equation 3.15: marginalised over the
        expectation of each bin. It has no saturated model, hence no goodness of fit.
    - `"bb"`: R. J. Barlow and C. Beeston, Comput. Phys. Commun. 77 (1993) 219: one parameter for each bin of each
        template, profiled exactly.

    The first three have the names of iminuit's `Template`. The values of the first two are half of iminuit's; that of
    `"asy"` differs from iminuit's only in that it is relative to the saturated Poisson model. In a bin that is empty in
    all templates, `"bb"` assigns the events to the strongest component; the others leave such bins out, as iminuit
    does, and `mx.fit` warns if there are events in them.

    **Arguments:**

    - `components`: a dictionary of the components by name. Each is a template (an array of simulated counts, or
        `mx.Counts(value, variance)` of weighted events), or a function `expected(params)` that returns expected counts
        without a statistical error. All have the shape of the data.
    - `yields`: `yields(params)`, a dictionary with the expected number of events of each template. Default: the
        parameters with the names of the templates, `params["signal"]` or `params.signal`.
    - `method`: one of the methods above.
    - `mask`: `None`, or booleans of the shape of the counts: `True` for the bins that are used.

    **Raises:** `TypeError` or `ValueError` for components that are not templates, that have different shapes, or that
    are empty or (with the method `"bb"`, or without a variance) negative; for an unknown method.
    """

    components: dict[str, Counts | Callable[[Any], Array]] = eqx.field(converter=_components)
    yields: Callable[[Any], Mapping[str, Any]] | None = None
    method: str = eqx.field(static=True, default="da", kw_only=True)
    mask: Bool[Array, "*bins"] | None = eqx.field(
        default=None, kw_only=True, converter=lambda m: None if m is None else jnp.asarray(m)
    )

    def __check_init__(self) -> None:
        if not isinstance(self.components, dict) or not self.components:
            raise TypeError("TemplateNLL takes a dictionary of templates: {'signal': counts, 'background': counts}")
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {self.method!r}")
        if self.yields is not None:
            check_callable(self.yields, "the yields of TemplateNLL", "yields(params)")
        _counts.check_mask(self.mask, "TemplateNLL")
        shapes = {name: template.shape for name, template in self._templates()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"the templates have different shapes: {shapes}")
        for name, part in self.components.items():
            if isinstance(part, Counts):
                _check_template(name, part, self.method)
            else:
                check_callable(part, f"the component {name!r} of TemplateNLL", "expected(params)")

    @property
    def _used(self) -> Bool[Array, "*bins"] | None:
        """The bins that are used; `None`: all. The expectation is unknown where all templates are empty, which only the
        method of Barlow and Beeston can handle."""
        if self.method == "bb" or len(self._templates()) < len(self.components):
            return self.mask
        filled = functools.reduce(jnp.logical_or, [part.value != 0 for _, part in self._templates()])
        if is_concrete(filled) and np.all(filled):
            return self.mask
        return filled if self.mask is None else filled & self.mask

    def complaints(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> list[str]:
        """Warn of events where all templates are empty."""
        used, counts = self._used, as_counts(data, "TemplateNLL").value
        if used is None or not is_concrete(used, counts):
            return []
        lost = np.asarray(~used if self.mask is None else ~used & self.mask) & (np.asarray(counts) != 0)
        if not np.any(lost):
            return []
        places = [", ".join(map(str, at)) for at in np.argwhere(lost)]
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        return [
            f"the data have {np.sum(np.asarray(counts)[lost]):.6g} events in bins that are empty in all templates "
            f"({'; '.join(places[:5])}{more}). These bins are left out. Make the bins wider, or take method='bb'"
        ]

    def _templates(self) -> list[tuple[str, Counts]]:
        return [(name, part) for name, part in self.components.items() if isinstance(part, Counts)]

    def __call__(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Scalar:
        """Minus the log of the likelihood of the counts `data`, relative to the saturated model."""
        return jnp.sum(self.terms(params, data))

    def terms(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Float[Array, "*bins"]:
        """The terms of the likelihood, one per bin."""
        counts, bins = as_counts(data, "TemplateNLL"), self._bins(resolve(params))
        mask = self._used
        _counts.check_shapes(bins.mu, counts, mask)
        n, s = counts.value.astype(bins.mu.dtype), jnp.ones_like(bins.mu)
        negative = jnp.zeros(n.shape, bool)
        if counts.variance is not None:
            s, negative = _counts.scale(counts, mask)
        used = ~negative if mask is None else ~negative & mask
        out = self._scaled(bins, jnp.where(used, s * n, 1.0), s, used)
        if counts.variance is not None:
            variance = jnp.where(negative, counts.variance + bins.variance, 1.0)
            out = jnp.where(negative, 0.5 * (n - bins.mu) ** 2 / variance, out)
        return out if mask is None else jnp.where(mask, out, 0.0)

    def _scaled(self, bins: _Bins, n: Array, s: Array, used: Array) -> Float[Array, "*bins"]:
        if self.method == "bb":
            exact, events = jnp.where(used, s * bins.exact, 1.0), jnp.where(used, bins.events, 0.0)
            return barlow_beeston_terms(n, exact, s * bins.strengths, events)
        terms = {"da": da_terms, "jsc": conway_terms, "asy": asy_terms}[self.method]
        return terms(n, jnp.where(used, s * bins.mu, 1.0), jnp.where(used, s**2 * bins.variance, 0.0))

    def _bins(self, params: PyTree) -> _Bins:
        yields = self.yields_of(params)
        mu: Any = 0.0
        variance, exact, strengths, events = mu, mu, [], []
        for name, part in self.components.items():
            if not isinstance(part, Counts):
                expected = jnp.asarray(part(params))
                mu, exact = mu + expected, exact + expected
                continue
            total = jnp.sum(part.value)
            strength = jnp.asarray(yields[name]) / total
            squared = part.value if part.variance is None else part.variance
            mu, variance = mu + strength * part.value, variance + strength**2 * squared
            weight, number = _effective(part)
            strengths.append(strength * weight)
            events.append(number)
        variance, exact = jnp.broadcast_to(variance, mu.shape), jnp.broadcast_to(exact, mu.shape)
        none = jnp.zeros((0, *mu.shape), mu.dtype)
        stack = lambda arrays: jnp.stack(arrays).astype(mu.dtype) if arrays else none  # noqa: E731
        return _Bins(mu, variance.astype(mu.dtype), exact.astype(mu.dtype), stack(strengths), stack(events))

    def yields_of(self, params: PyTree) -> Mapping[str, Any]:
        names = [name for name, _ in self._templates()]
        if self.yields is None:
            return {name: _yield_named(params, name) for name in names}
        yields = self.yields(params)
        if not isinstance(yields, Mapping) or any(name not in yields for name in names):
            got = f"the keys {', '.join(map(repr, yields))}" if isinstance(yields, Mapping) else type(yields).__name__
            raise ValueError(f"yields(params) must be a dictionary with {', '.join(map(repr, names))}, got {got}")
        return yields

    def prediction(self, params: PyTree, data: Any = None) -> Float[Array, "*bins"]:
        """The expected counts: the templates scaled to their yields, and the other components."""
        return self._bins(resolve(params)).mu

    def prediction_error(self, params: PyTree) -> Float[Array, "*bins"]:
        """The standard deviation of the expected counts from the templates' errors, for given yields."""
        return jnp.sqrt(self._bins(resolve(params)).variance)

    def expected_data(self, params: PyTree, data: Any = None) -> Float[Array, "*bins"] | Counts:
        """The Asimov data: the expected counts. For weighted `data`, `mx.Counts` with the same mean weights."""
        return _counts.like(data if isinstance(data, Counts) else None, self.prediction(params), self._used)

    def sample(self, params: PyTree, key: Array, data: Any = None) -> Float[Array, "*bins"]:
        """One set of counts drawn at `params`. The templates are constants and not drawn again, so that these toys
        fluctuate less than the likelihood expects: `mx.goodness_of_fit` refuses them."""
        _counts.refuse_weighted(data if isinstance(data, Counts) else None, "TemplateNLL.sample")
        return draw_poisson(key, self.prediction(params))

    @property
    def deviance(self) -> Callable[[PyTree, Any], Scalar] | None:
        """`deviance(params, counts)`: twice the value. `None` for the method `"asy"`, which has no saturated model."""
        return None if self.method == "asy" else lambda params, data: 2 * self(params, data)

    @property
    def draws_all(self) -> bool:
        """Whether toys include all fluctuations that the likelihood has errors for."""
        return False

    def pulls(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> Float[Array, "*bins"]:
        """(n - mu) / standard deviation, including that of the templates; NaN in masked bins."""
        bins, counts = self._bins(resolve(params)), as_counts(data, "TemplateNLL")
        count_variance = bins.mu if counts.variance is None else counts.variance
        return _counts.count_pulls(bins.mu, Counts(counts.value, count_variance + bins.variance), self._used)

    def ndata(self, data: Float[Array, "*bins"] | Counts) -> int | Int[Array, ""]:
        """The number of bins that are used."""
        return _counts.num_used(self._used, as_counts(data, "TemplateNLL"))

    def faults(self, params: PyTree, data: Float[Array, "*bins"] | Counts) -> PyTree:
        """`Fault` codes of the bins in which the likelihood is infinite or NaN, for messages."""
        mu = self.prediction(params)
        return _counts.count_faults(mu, (mu == 0) & (self.method != "bb"), as_counts(data, "TemplateNLL"), self._used)


def _yield_named(params: PyTree, name: str) -> Any:
    """**Raises:** `ValueError` unless the parameters have a yield of that name."""
    value = params.get(name) if isinstance(params, Mapping) else getattr(params, name, None)
    if value is None:
        known = ", ".join(map(repr, params)) if isinstance(params, Mapping) else type(params).__name__
        raise ValueError(
            f"there is no parameter {name!r} for the yield of this template, but {known}: give yields(params)"
        )
    return value


def _effective(template: Counts) -> tuple[Array, Array]:
    """The weight and the number of the effective events in each bin. An empty bin has the mean weight."""
    if template.variance is None:
        return jnp.ones_like(template.value), template.value
    filled = template.value > 0
    a, v = jnp.where(filled, template.value, 1.0), jnp.where(filled, template.variance, 1.0)
    mean = jnp.sum(template.variance) / jnp.sum(template.value)
    return jnp.where(filled, v / a, mean), jnp.where(filled, a**2 / v, 0.0)


def _check_template(name: str, template: Counts, method: str) -> None:
    if not is_concrete(template.value):
        return
    values = np.asarray(template.value)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"the template {name!r} is not finite")
    if not np.sum(values) > 0:
        raise ValueError(f"the template {name!r} is empty: its contents add up to {np.sum(values)}")
    if np.any(values < 0) and (method == "bb" or template.variance is None):
        at = np.unravel_index(int(np.argmax(values < 0)), values.shape)
        hint = "" if template.variance is None else '; the method "da" copes with it'
        raise ValueError(f"the template {name!r} is negative in bin {', '.join(map(str, at))}{hint}")
