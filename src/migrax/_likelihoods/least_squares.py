"""Least-squares fits of a curve to points with errors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Scalar

from .._hints.calls import check_callable, given, refuse_strangers
from .._parameters.resolve import resolve
from .._util.chunks import chunked_sum
from .._util.poisson_draw import draw_poisson
from .._util.tracing import is_concrete
from .._util.typing import PyTree
from .._util.unavailable import Unavailable
from .base import AbstractLikelihood
from .counts import floats
from .fault import Fault
from .loss import LOSSES, check_loss
from .spread import At, of_events, of_residuals

_NEEDS_SCALE = (
    "needs the errors of the points, which are unknown here (no yerr, or scale_covariance=True). Where all points have "
    "the same error, mx.Points(x, y, yerr=np.sqrt(result.chi2 / result.ndof)) takes it from the scatter"
)
_LOSS_NEEDS_ERRORS = "a loss that is not 'linear' says what is far off in units of the errors of y: give Points a yerr"


class Points(eqx.Module):
    """Measured points: `y` with standard errors `yerr` at `x`, which may have standard errors `xerr` as well.

    Instead of `yerr`, `y` may have a covariance matrix; or no errors, which are then taken as equal and unknown.
    """

    x: Float[Array, "n *dim"]
    y: Float[Array, " n"]
    yerr: Float[Array, " n"]
    xerr: Float[Array, "n *dim"] | None
    covariance: Float[Array, "n n"] | None
    mask: Bool[Array, " n"] | None
    known: bool = eqx.field(static=True)  # whether errors are given

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        yerr: ArrayLike | None = None,
        xerr: ArrayLike | None = None,
        *,
        covariance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ):
        """**Arguments:**

        - `x`: shape `(n,)`, or `(n, dim)` for several coordinates per point.
        - `y`: shape `(n,)`.
        - `yerr`: a positive number or shape `(n,)`, in the units of `y`; or
        - `covariance`: the covariance matrix of `y`, shape `(n, n)`, in the squared units of `y`. With neither, all
            points have equal weight, and the errors of a fit follow from their scatter around the curve: see
            `mx.LeastSquares`.
        - `xerr`: `None`, or a number or an array of the shape of `x`, in the units of `x`.
        - `mask`: `None`, or booleans of shape `(n,)`: `True` for the points that are used.

        **Raises:** `ValueError` for shapes that do not fit together, errors that are not positive, a covariance that is
        not symmetric and positive definite; `TypeError` for both `yerr` and `covariance`, for `xerr` with neither of
        them, and for quantities with a unit.
        """
        for name, value in (("x", x), ("y", y), ("yerr", yerr), ("xerr", xerr), ("covariance", covariance)):
            refuse_strangers(value, f"{name} is")
        self.x, self.y = floats(x), floats(y)
        if self.y.ndim != 1 or self.x.ndim not in (1, 2) or self.x.shape[:1] != self.y.shape:
            many = self.y.ndim == 2 and self.y.shape[1:] == self.x.shape[:1]
            hint = "; for many sets: jax.vmap(lambda y: mx.fit(nll, params, mx.Points(x, y, yerr)))(ys)" if many else ""
            raise ValueError(
                f"x must have shape (n,) or (n, dim) and y (n,), got {self.x.shape} and {self.y.shape}{hint}"
            )
        if yerr is not None and covariance is not None:
            raise TypeError("Points takes either yerr or covariance: the errors of y")
        self.known = yerr is not None or covariance is not None
        if xerr is not None and not self.known:
            raise TypeError("xerr needs yerr or covariance as well: Points(x, y, yerr, xerr)")
        self.covariance = None if covariance is None else _matrix(covariance, self.y)
        if self.covariance is None:
            self.yerr = _error(1.0 if yerr is None else yerr, self.y, "yerr", allow_zero=False)
        else:
            self.yerr = jnp.sqrt(jnp.diagonal(self.covariance))
        self.xerr = None if xerr is None else _error(xerr, self.x, "xerr", allow_zero=True)
        self.mask = None if mask is None else jnp.asarray(mask)
        if self.mask is not None and (self.mask.dtype != bool or self.mask.shape != self.y.shape):
            raise ValueError(f"the mask must hold {self.size} booleans, got {self.mask.dtype} of {self.mask.shape}")

    @property
    def size(self) -> int:
        """The number of points, including masked ones."""
        return self.y.shape[0]


def _error(error: ArrayLike, like: Array, name: str, *, allow_zero: bool) -> Array:
    array = jnp.asarray(error, dtype=like.dtype)
    if array.shape not in ((), like.shape):
        raise ValueError(f"{name} must be a number or have shape {like.shape}, got {array.shape}")
    array = jnp.broadcast_to(array, like.shape)
    if is_concrete(array):
        is_invalid = ~(np.asarray(array) >= 0 if allow_zero else np.asarray(array) > 0)
        if np.any(is_invalid):
            index = np.unravel_index(int(np.argmax(is_invalid)), is_invalid.shape)
            index_text = ", ".join(map(str, index))
            raise ValueError(f"{name} must be positive, but {name}[{index_text}] is {np.asarray(array)[index]}")
    return array


def _matrix(covariance: ArrayLike, y: Array) -> Array:
    matrix = floats(covariance).astype(y.dtype)
    if matrix.shape != (*y.shape, *y.shape):
        raise ValueError(f"the covariance of {y.size} values must have shape {(y.size, y.size)}, got {matrix.shape}")
    check_covariance(matrix, "the covariance of Points")
    return matrix


def check_covariance(matrix: Array, what: str) -> None:
    """**Raises:** `ValueError` unless the matrix is symmetric and positive definite. A traced one is not checked."""
    if not is_concrete(matrix):
        return
    a = np.asarray(matrix)
    variance = np.diagonal(a)
    if not np.all(np.isfinite(a)) or np.any(variance <= 0):
        raise ValueError(f"{what} must have positive variances on its diagonal, and be finite")
    correlation = a / np.sqrt(np.outer(variance, variance))
    if np.any(np.abs(correlation - correlation.T) > 1e-6):
        raise ValueError(f"{what} must be symmetric")
    if np.linalg.eigvalsh(correlation)[0] <= 0:
        raise ValueError(f"{what} is not positive definite")


class LeastSquares(AbstractLikelihood):
    """The likelihood of points with errors around a curve `model(params, x)`.

    The value is chi2/2, which is minus log L up to a constant, so that it can be added to other likelihoods.

        chi2 = sum((y - f(x))^2 / (yerr^2 + (f'(x) xerr)^2))

    Errors of `x` are propagated through the model's slope ("effective variance"; J. Orear, Am. J. Phys. 50 (1982)
    912), by automatic differentiation; for a line this is Deming's regression. With a covariance matrix C of `y`,
    chi2 = (y - f)ᵀ C⁻¹ (y - f).

    ```python
    line = mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x)
    mx.fit(line, {"a": 0.0, "b": 1.0}, mx.Points(x, y, yerr=0.1))
    ```

    **Unknown errors.** Without errors of `y`, or with `scale_covariance=True`, which treats them as relative, the
    covariance of `mx.fit` and `mx.hesse` is multiplied by chi2/ndof at the minimum, as
    `scipy.optimize.curve_fit(absolute_sigma=False)` does. The `up` of the result, the rise that MINOS, profiles and
    contours use, is multiplied by it as well. The errors then follow from the scatter of the points, and chi2 says
    nothing about the quality of the fit. Functions that need a likelihood in absolute units (`mx.Joint`, toys, Asimov
    data, tests, limits, the goodness of fit) raise an error.

    **Arguments:**

    - `model`: `model(params, x) -> (n,)`, the curve at the points; each value may depend on its own row of `x` only.
        The method of an `eqx.Module` is given unbound, `Line.__call__`.
    - `loss`: the loss of a squared residual z: `"linear"` (z itself), `"soft_l1"`, `"huber"` or `"cauchy"`, as in
        `scipy.optimize.least_squares`, for data with outliers; or a function `loss(z)` of the array of all z that
        behaves like z near 0. Not available with a covariance matrix.
    - `chunk_size`: if given, the sum is streamed over this many points at a time (see `mx.chunked_sum`). Not available
        with a covariance matrix.
    - `scale_covariance`: `True` if the errors of the points are known only up to a common factor.

    **Raises:** `TypeError` if `model` cannot be called with two arguments; `ValueError` for an unknown loss, or for a
    loss other than `"linear"` if the errors are unknown.
    """

    model: Callable[[Any, Array], Array]
    loss: str | Callable[[Array], Array] = "linear"
    chunk_size: int | None = eqx.field(static=True, default=None)
    scale_covariance: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self) -> None:
        check_callable(self.model, "the model of LeastSquares", "model(params, x)")
        check_loss(self.loss)
        if not isinstance(self.scale_covariance, bool):
            raise TypeError(f"scale_covariance is True or False, got {self.scale_covariance!r}")
        if self.scale_covariance and not self.is_chi2:
            raise ValueError(_LOSS_NEEDS_ERRORS)

    def covariance_kind(self, data: Points) -> str:
        """The appropriate covariance for these data: `"scaled"` if their errors are unknown."""
        return "scaled" if self.scale_is_unknown(data) else "hesse"

    def scale_is_unknown(self, data: Any) -> bool:
        """Whether the likelihood is known only up to a factor."""
        return self.scale_covariance or (isinstance(data, Points) and not data.known)

    def needs_scale(self, data: Any, what: str, otherwise: str = "") -> None:
        """**Raises:** `TypeError` if the errors of the points are unknown."""
        if self.scale_is_unknown(data):
            raise Unavailable(f"{what} {_NEEDS_SCALE}{otherwise}")

    def __call__(self, params: PyTree, data: Points) -> Scalar:
        """chi2/2 of the points `data`."""
        _check_points(data)
        if not (data.known or self.is_chi2):
            raise ValueError(_LOSS_NEEDS_ERRORS)
        if data.covariance is None:
            return chunked_sum(self.terms, params, data, chunk_size=self.chunk_size)
        if self.chunk_size is not None:
            raise ValueError("a sum over points with a covariance matrix cannot be streamed: leave chunk_size out")
        return jnp.sum(self.terms(params, data))

    def terms(self, params: PyTree, data: Points) -> Float[Array, " n"]:
        """The terms of the likelihood: half the squared residuals, or half their loss."""
        z = self._residuals(params, data) ** 2
        if self.loss == "linear":
            return 0.5 * z
        if data.covariance is not None:
            raise ValueError("loss= cannot be combined with a covariance matrix: leave it out, or give yerr")
        return 0.5 * (LOSSES[self.loss] if isinstance(self.loss, str) else self.loss)(z)

    def score_covariance(self, at: At, x: Float[Array, " n"], data: Points) -> Float[Array, "n n"]:
        """J of the sandwich: residuals have variance 1. For a loss that is not linear, which is meant for points with
        unreliable errors, the sum of the squared slopes of the points."""
        if self.loss != "linear":
            return of_events(self.terms, at, x, data, self.chunk_size)
        if data.covariance is not None:
            return of_residuals(self._residuals, at, x, data)
        return of_events(self._residuals, at, x, data, self.chunk_size)

    @property
    def is_chi2(self) -> bool:
        """Whether the likelihood is half of a chi2."""
        return self.loss == "linear"

    @property
    def residuals(self) -> Callable[[PyTree, Points], Float[Array, " n"]] | None:
        """`residuals(params, points)`, shape `(n,)`: (y - f(x)) / error, 0 for masked points, decorrelated if there is
        a covariance; the input of Optimistix's least-squares solvers. `None` for a loss that is not linear."""
        return self._residuals if self.is_chi2 else None

    def _residuals(self, params: PyTree, data: Points) -> Float[Array, " n"]:
        _check_points(data)
        if data.xerr is None:
            f, x_variance = self._curve(params, data.x, data.y), None
        else:
            f, x_variance = self._with_x_errors(params, data)
        difference = data.y - f
        if data.mask is not None:
            difference = jnp.where(data.mask, difference, 0.0)
        if data.covariance is None:
            return difference / (data.yerr if x_variance is None else jnp.sqrt(data.yerr**2 + x_variance))
        matrix = data.covariance if x_variance is None else data.covariance + jnp.diag(x_variance)
        if data.mask is not None:  # the covariance of the unmasked points is that part of the matrix
            pair = data.mask[:, None] & data.mask[None, :]
            matrix = jnp.where(pair, matrix, jnp.diag(data.yerr**2))
        return jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(matrix), difference, lower=True)

    def _curve(self, params: PyTree, x: Array, y: Array) -> Array:
        f = jnp.asarray(self.model(resolve(params), x))
        if f.shape != y.shape:
            raise ValueError(f"model(params, x) has shape {f.shape}, y has {y.shape}; they must be the same")
        return f.astype(jnp.promote_types(f.dtype, y.dtype))

    def _with_x_errors(self, params: PyTree, data: Points) -> tuple[Array, Array]:
        """The curve, and its variance due to the errors of x."""
        xerr = data.xerr
        assert xerr is not None
        curve = lambda x: self._curve(params, x, data.y)  # noqa: E731
        if data.x.ndim == 1:
            f, shift = jax.jvp(curve, (data.x,), (xerr,))
            return f, shift**2
        f, linear = jax.linearize(curve, data.x)
        unit_columns = jnp.eye(data.x.shape[1], dtype=xerr.dtype)
        shifts = jax.vmap(lambda column: linear(xerr * column[None, :]))(unit_columns)
        return f, jnp.sum(shifts**2, axis=0)

    def prediction(self, params: PyTree, data: Points | None = None) -> Float[Array, " n"]:
        """The curve at the points' `x`."""
        data = _needed(data, "LeastSquares.prediction")
        return self._curve(params, data.x, data.y)

    def expected_data(self, params: PyTree, data: Points | None = None) -> Points:
        """The Asimov data: the points of `data` moved onto the curve."""
        data = _needed(data, "LeastSquares.expected_data")
        self.needs_scale(data, "Asimov data")
        return eqx.tree_at(lambda points: points.y, data, self._curve(params, data.x, data.y))

    def sample(self, params: PyTree, key: Array, data: Points | None = None) -> Points:
        """New measurements of the points of `data`: `y` around the curve at its `x`, and `x`, if it has errors, around
        itself."""
        data = _needed(data, "LeastSquares.sample")
        self.needs_scale(data, "a toy")
        in_x, in_y = jax.random.split(key)
        noise = jax.random.normal(in_y, data.y.shape, data.y.dtype)
        noise = data.yerr * noise if data.covariance is None else jnp.linalg.cholesky(data.covariance) @ noise
        drawn = eqx.tree_at(lambda points: points.y, data, self._curve(params, data.x, data.y) + noise)
        if data.xerr is None:
            return drawn
        x = data.x + data.xerr * jax.random.normal(in_x, data.x.shape, data.x.dtype)
        return eqx.tree_at(lambda points: points.x, drawn, x)

    def pulls(self, params: PyTree, data: Points) -> Float[Array, " n"]:
        """(y - f(x)) / error, including that of `x`; NaN for masked points. The error of points without errors is the
        root mean square of y - f(x)."""
        _check_points(data)
        f, x_variance = self._curve(params, data.x, data.y), 0.0
        if data.xerr is not None:
            f, x_variance = self._with_x_errors(params, data)
        pulls = (data.y - f) / jnp.sqrt(data.yerr**2 + x_variance)
        if not data.known:
            pulls = pulls / jnp.sqrt(jnp.mean(pulls**2, where=data.mask))
        return pulls if data.mask is None else jnp.where(data.mask, pulls, jnp.nan)

    @property
    def deviance(self) -> Callable[[PyTree, Points], Scalar] | None:
        """`deviance(params, points)`: chi2. `None` for a loss that is not linear."""

        def deviance(params: PyTree, data: Points) -> Scalar:
            self.needs_scale(data, "the goodness of fit")
            return 2 * self(params, data)

        return deviance if self.is_chi2 else None

    def resample(self, key: Array, data: Points) -> Points:
        """A bootstrap sample: the error of a point that is drawn `k` times is divided by sqrt(k).

        **Raises:** `TypeError` for points with a covariance or errors of x, which cannot be resampled one by one.
        """
        if data.covariance is not None or data.xerr is not None:
            raise TypeError(
                "points with a covariance or xerr cannot be resampled one by one: bootstrap(kind='parametric')"
            )
        multiplicity = draw_poisson(key, jnp.ones((), data.y.dtype), data.y.shape)
        mask = multiplicity > 0 if data.mask is None else data.mask & (multiplicity > 0)
        error = data.yerr / jnp.sqrt(jnp.maximum(multiplicity, 1.0))
        return eqx.tree_at(lambda p: (p.yerr, p.mask), data, (error, mask), is_leaf=lambda x: x is None)

    def faults(self, params: PyTree, data: Points) -> PyTree:
        """`Fault` codes for each array of `data`, where the likelihood is infinite or NaN, for messages."""
        no_faults = jax.tree.map(lambda a: jnp.full(a.shape, int(Fault.NONE)), data)
        is_finite = jnp.isfinite(self._curve(params, data.x, data.y))
        is_finite = is_finite if data.mask is None else is_finite | ~data.mask
        code = jnp.where(is_finite, int(Fault.NONE), int(Fault.EXPECTED_NOT_FINITE))
        return eqx.tree_at(lambda points: points.y, no_faults, code)

    def ndata(self, data: Points) -> int | Int[Array, ""]:
        """The number of unmasked points."""
        return data.size if data.mask is None else jnp.sum(data.mask)


def _check_points(data: Any) -> None:
    if not isinstance(data, Points):
        raise TypeError(f"LeastSquares takes mx.Points(x, y, yerr) as data, got {given(data)}")


def _needed(data: Points | None, what: str) -> Points:
    if data is None:
        raise Unavailable(f"{what} needs the points, whose x and errors it takes: give it data=points")
    _check_points(data)
    return data
