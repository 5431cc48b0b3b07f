"""What a fit returns: `FitResult` and `Covariance`."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Scalar

from . import _other_names
from ._parameter import Where, bounds_of, flatten, is_concrete, select, unknown_name
from ._status import Status
from ._typing import PyTree


class Covariance(eqx.Module):
    """The covariance matrix of the free parameters, in the user's units.

    Vmapped fits have it with leading axes. `kind` says what it is: `"hesse"`, the inverse of the second derivatives, or
    the robust `"sandwich"`. `accuracy` is `None` where these are exact; where they are differences of exact gradients
    (`mx.External`, and functions that JAX differentiates only once) an estimate of the relative error of the standard
    errors, shape `(...)`; NaN where nobody estimated it (toys).
    """

    matrix: Float[Array, "*batch n n"]
    valid: Bool[Array, "*batch"]
    names: tuple[str, ...] = eqx.field(static=True)
    kind: str = eqx.field(static=True, default="hesse")
    accuracy: Float[Array, "*batch"] | None = None

    @property
    def errors(self) -> Float[Array, "*batch n"]:
        """The square roots of the variances, shape `(..., n)`."""
        variance = jnp.diagonal(self.matrix, axis1=-2, axis2=-1)
        return _safe_sqrt(variance)

    @property
    def correlation(self) -> Float[Array, "*batch n n"]:
        """The correlation matrix, shape `(..., n, n)`: 1 on the diagonal, 0 beside a parameter without a variance."""
        errors = self.errors
        inverse = jnp.where(errors > 0, 1 / jnp.where(errors > 0, errors, 1.0), 0.0)
        product = self.matrix * inverse[..., :, None] * inverse[..., None, :]
        n = errors.shape[-1]
        one = jnp.eye(n, dtype=bool)
        return jnp.where(
            one & jnp.isfinite(errors)[..., None, :], 1.0, jnp.where(jnp.isfinite(self.matrix), product, jnp.nan)
        )

    def __getitem__(self, pair: tuple[str, str]) -> Float[Array, "*batch"]:
        """`covariance["mu", "sigma"]`: one entry, or a block for vector parameters, shape `(..., size, size)`."""
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(name, str) for name in pair)):
            raise TypeError(f"give two names, covariance['a', 'b'], or index .matrix; got {pair!r}")
        i, j = (_positions(name, self.names) for name in pair)
        block = self.matrix[..., i[:, None], j[None, :]]
        drop = [axis for axis, name in ((-2, pair[0]), (-1, pair[1])) if name in self.names]
        return jnp.squeeze(block, tuple(drop))

    def _ipython_key_completions_(self) -> list[tuple[str, str]]:
        return [(a, b) for a in self.names for b in self.names]

    def __repr__(self) -> str:
        from . import _print

        return _print.covariance_text(self)

    def _repr_html_(self) -> str:
        from . import _print

        return _print.covariance_html(self)


class Estimate(eqx.Module):
    """One parameter of a fit: what `result["mu"]` is.

    **Attributes**, each of the parameter's shape (many fits: their axes come first), in the user's units:

    - `value`, `error`: the fitted value and its standard error: 0 for a parameter that is fixed or lies on its bound,
        NaN where there is no valid covariance.
    - `lower`, `upper`: the bounds, infinite where there is none.
    - `at_limit`: whether it is at a bound or nearer to it than half its error.

    A single number outside of `jax.jit` is one of NumPy (`np.float64` is a Python `float`, which `json` takes).
    """

    value: Array
    error: Array
    lower: Array
    upper: Array
    at_limit: Array

    def __repr__(self) -> str:
        if not is_concrete(*jax.tree.leaves(self)):
            return f"Estimate(traced, shape={jnp.shape(self.value)})"
        fields = {name: np.asarray(getattr(self, name)) for name in ("value", "error", "lower", "upper", "at_limit")}
        return f"Estimate({', '.join(f'{name}={array.tolist()}' for name, array in fields.items())})"


class Note:
    """Text beside the numbers of a result. All are equal, so that results with and without one have one structure."""

    __slots__ = ("text",)
    text: str

    def __init__(self, text: str):
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note)

    def __hash__(self) -> int:
        return hash(Note)


class FitResult(eqx.Module):
    """What `mx.fit` returns. Vmapped fits have every array with leading axes.

    **Attributes:**

    - `params`: the tree that was given to `fit` with the fitted values in it: ready to be the next start.
    - `names`: the names of the free parameters, one per number.
    - `values`, `errors`: shape `(n_free,)`, in the user's units and in the order of `names` (that of JAX's pytrees: a
        dict's entries come in the order of its sorted keys). The error of a parameter that lies on its bound is 0: to
        first order it cannot move. NaN where there is no valid covariance.
    - `covariance`: a `Covariance`, or `None` for `fit(hesse=False)`.
    - `nll`: the minimum of the function, in its own units. `chi2` is twice that for `mx.LeastSquares`, else `None`;
        `ndof` is the number of data less that of the free parameters (one that lies on its bound is free no more),
        where the likelihood knows it, else `None`.
    - `message`: how the fit ended, in words.
    - `edm`: the estimated vertical distance to the minimum before the last Newton step, in units of the function.
    - `valid`: whether this is a minimum that can be trusted; `status` (an `mx.Status` number) says why not.
    - `at_limit`: shape `(n_free,)`, whether a parameter is at a bound or nearer to it than half its error.
    - `on_kink`: shape `(n_free,)`, whether a parameter lies on a kink that the likelihood knows of (interpolation codes
        0 and 1, `mx.Likelihood(kinks=...)`), where the slopes of the two sides bracket zero. Its error is that of the
        rise to both sides; MINOS gives each side's own.
    - `stats`: `num_steps`, `num_values`, `num_gradients` (each with its value), `num_hessians` (each with value and
        gradient).
    - `minos`: `None`, or the lower and upper errors of `mx.minos` (its `result` has them), each of shape `(n_free,)`.
    - `direction`: shape `(n_free,)`, for a fit that is not valid: the direction that the data do not determine or in
        which the function curves down, in units of `1/sqrt(second derivative)`. Zero for a valid fit.
    """

    values: Float[Array, "*batch n"]
    errors: Float[Array, "*batch n"]
    covariance: Covariance | None
    nll: Float[Array, "*batch"]
    edm: Float[Array, "*batch"]
    valid: Bool[Array, "*batch"]
    status: Int[Array, "*batch"]
    at_limit: Bool[Array, "*batch n"]
    on_kink: Bool[Array, "*batch n"]
    stats: dict[str, Array]
    direction: Float[Array, "*batch n"]
    lower: Float[Array, "*batch n"]
    upper: Float[Array, "*batch n"]
    up: Scalar
    chi2: Float[Array, "*batch"] | None
    ndof: Int[Array, "*batch"] | None
    bad_data: Int[Array, "*batch 2"]  # which entry of the data, and the `Fault` that it has
    _params: PyTree
    minos: tuple[Float[Array, "*batch n"], Float[Array, "*batch n"]] | None
    names: tuple[str, ...] = eqx.field(static=True)
    algorithm: str = eqx.field(static=True)
    data_paths: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    blame: Note = eqx.field(static=True, default=Note(""))  # what in the model is not finite

    @property
    def params(self) -> PyTree:
        is_static = lambda leaf: isinstance(leaf, _Static)  # noqa: E731
        return jtu.tree_map(lambda leaf: leaf.value if is_static(leaf) else leaf, self._params, is_leaf=is_static)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name in type(self).__dict__:  # a property that failed: its own error
                return object.__getattribute__(self, name)
            # without obj: Python would ask a second time whether something else was meant
            raise AttributeError(_other_names.of_result(name, dir(self)), name=name)

    def __getitem__(self, where: Where) -> Estimate:
        """`result["mu"]`: one parameter's value, error and limits. Takes a name or a function that picks a node.

        The error of a fixed parameter is 0.
        """
        if not (isinstance(where, str | list | tuple) or callable(where)):
            raise TypeError(
                f"a result is indexed by the name of a parameter, got {where!r}. For one of many fits: "
                "jax.tree.map(lambda x: x[i], results)"
            )
        if isinstance(where, str) and where in self.names:
            index: Any = self.names.index(where)
        elif isinstance(where, str) and (fixed := self._fixed(where)) is not None:
            return fixed
        else:
            picked = select(self._first_lane().params, where)
            index = picked[0] if len(picked) == 1 and not isinstance(where, str) else np.asarray(picked)
        take = lambda x: x[..., index]  # noqa: E731
        every = (self.values, self.errors, self.lower, self.upper, self.at_limit)
        return Estimate(*(_number(take(x)) for x in every))

    def _ipython_key_completions_(self) -> list[str]:
        """What an editor offers after `result["`: parameters, fixed ones too, and the entries of vectors."""
        slots = flatten(self._first_lane().params)[1]
        vectors = [slot.name for slot in slots if slot.shape != ()]
        return list(dict.fromkeys([*(slot.name for slot in slots), *self.names, *vectors]))

    def sample(self, key: Array, n: int | None = None) -> Float[Array, "*batch draws n"]:
        """Draws the free parameters from the normal distribution of the fit's values and covariance.

        They do not heed the bounds; a parameter at a limit stays there.

        **Arguments:**

        - `key`: a key of `jax.random`.
        - `n`: how many; `None` for one draw without the axis.

        **Returns:** shape `(n, n_free)` (a batch of fits: its axes come first), NaN where there is no valid covariance.

        **Raises:** `ValueError` for `fit(hesse=False)`.
        """
        if self.covariance is None:
            raise ValueError("sample needs the covariance: fit with hesse=True")
        if isinstance(key, int | float) or (n is not None and (isinstance(n, bool) or int(n) != n or n < 1)):
            raise TypeError(
                f"sample takes a key and a number, as in sample(jax.random.key(0), 100); got {key!r}, {n!r}"
            )
        matrix = self.covariance.matrix
        usable = jnp.all(jnp.isfinite(matrix), axis=(-2, -1), keepdims=True)
        errors = jnp.where(self.covariance.errors > 0, self.covariance.errors, 1.0)
        scale = errors[..., :, None] * errors[..., None, :]
        # of the correlation: parameters may differ by many orders of magnitude
        values, vectors = jnp.linalg.eigh(jnp.where(usable, matrix / scale, 0.0))
        root = errors[..., :, None] * vectors * jnp.sqrt(jnp.maximum(values, 0.0))[..., None, :]
        root = jnp.where(usable, root, jnp.nan)
        count = 1 if n is None else n
        shape = (*self.values.shape[:-1], count, self.values.shape[-1])
        draws = self.values[..., None, :] + jnp.einsum(
            "...ij,...kj->...ki", root, jax.random.normal(key, shape, root.dtype)
        )
        return draws[..., 0, :] if n is None else draws

    @property
    def on_bound(self) -> Bool[Array, "*batch n"]:
        """Shape `(..., n_free)`: whether a parameter lies on one of its bounds."""
        return (self.values <= self.lower) | (self.values >= self.upper)

    def _fixed(self, name: str) -> Estimate | None:
        """The parameter of that name, if it is fixed or some of its entries are."""
        leaves, _, _ = flatten(self.params)
        position = 0
        for slot in flatten(self._first_lane().params)[1]:
            here, names = position, slot.element_names()
            position += int(np.sum(slot.free))
            if not slot.fixed or name not in (slot.name, *names):
                continue
            p = leaves[slot.leaf]
            flat = (*p.value.shape[: p.value.ndim - len(slot.shape)], slot.size)  # a batch has axes before
            low, high = (
                _spread(b, s, p.value, len(flat) - 1).reshape(flat) for s, b in zip((-1, 1), bounds_of(p), strict=True)
            )
            value = p.value.reshape(flat)
            free, take = np.flatnonzero(slot.free), slice(here, position)
            error = jnp.zeros_like(value).at[..., free].set(self.errors[..., take])
            at_limit = jnp.zeros(flat, bool).at[..., free].set(self.at_limit[..., take])
            every = (value, error, low, high, at_limit)
            if name != slot.name:
                return Estimate(*(_number(x[..., names.index(name)]) for x in every))
            return Estimate(*(_number(x.reshape(p.value.shape)) for x in every))
        return None

    def _first_lane(self) -> "FitResult":
        """One fit of a batch: the tree's structure and shapes are those of a single fit."""
        extra = jnp.ndim(self.nll)
        return jax.tree.map(lambda x: x[(0,) * extra], self) if extra else self

    @property
    def message(self) -> str:
        """How the fit ended, in words, with the direction or the entry of the data that is to blame.

        **Raises:** `ValueError` for a batch of fits: take one lane, `jax.tree.map(lambda x: x[3], results)`.
        """
        from . import _print

        return _print.message(self)

    def __repr__(self) -> str:
        from . import _print

        return _print.result_text(self)

    def _repr_html_(self) -> str:
        from . import _print

        return _print.result_html(self)


class _Static(eqx.Module):
    """A leaf of the user's tree that is not an array, kept out of the way of `jax.jit` and `jax.vmap`."""

    value: Any = eqx.field(static=True)


def only_arrays(params: PyTree) -> PyTree:
    """The tree with arrays for its only leaves, so that a result can leave `jax.jit` and `jax.vmap` although the model
    holds functions or strings."""
    return jtu.tree_map(lambda leaf: leaf if eqx.is_array(leaf) else _Static(leaf), params)


def _number(x: Any) -> Any:
    """A single number as one of NumPy, which in float64 is a Python float, too, so that `json` takes it."""
    if not is_concrete(x) or x.ndim != 0:
        return x
    return np.asarray(x)[()]


def _safe_sqrt(x: Array) -> Array:
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), jnp.where(x == 0, 0.0, jnp.nan))


def _positions(name: str, names: tuple[str, ...]) -> np.ndarray:
    found = [i for i, n in enumerate(names) if n == name or n.startswith((f"{name}[", f"{name}."))]
    if not found:
        raise ValueError(unknown_name(name, names))
    return np.asarray(found)


def status_counts(status: Array | np.ndarray) -> list[tuple[str, int]]:
    """How often each status occurs, the most frequent first."""
    counts = np.bincount(np.ravel(np.asarray(status)), minlength=len(Status))
    return sorted(((Status(i).phrase, int(n)) for i, n in enumerate(counts) if n), key=lambda pair: -pair[1])


def _spread(bound: Array | None, sign: int, value: Array, batch: int) -> Array:
    """A bound in the shape of the value, of which the first `batch` axes are those of a batch of fits."""
    if bound is None:
        return jnp.full_like(value, sign * jnp.inf)
    aligned = (*bound.shape[:batch], *(1,) * (value.ndim - bound.ndim), *bound.shape[batch:])
    return jnp.broadcast_to(bound.reshape(aligned), value.shape)
