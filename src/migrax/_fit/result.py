"""`FitResult`: what a fit returns."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Scalar

from .._display import html, latex, text
from .._display.records import Batch, Minimum, Row
from .._hints import other_packages
from .._parameters.names import flatten
from .._parameters.parameter import bounds_of
from .._parameters.resolve import value_of
from .._parameters.select import Where, select
from .._parameters.static import with_all_leaves
from .._util.result import AbstractResult, names_of, refuse_traced
from .._util.tracing import is_concrete_tree
from .._util.typing import PyTree
from .convergence import EDM_GOAL
from .covariance import Covariance
from .estimate import Estimate, element, partly_fixed
from .listing import frame_of, parameters_of
from .message import message
from .notes import constants_line, kinks_line, scatter_line, wrapped
from .status import Status, status_counts

if TYPE_CHECKING:
    from pandas import DataFrame


class Note:
    """Text in a result. All notes compare equal, so that results with and without one have the same tree structure."""

    __slots__ = ("text",)
    text: str

    def __init__(self, text: str):
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note)

    def __hash__(self) -> int:
        return hash(Note)


class FitResult(AbstractResult):
    """The result of a fit: what `mx.fit` returns. For vmapped fits, every array has the batch axes in front.

    **Attributes:**

    - `params`: the tree that was given to `fit`, with the fitted values in it; it can be the start of the next fit.
    - `names`: the names of the free parameters, one per number.
    - `values`, `errors`: shape `(n_free,)`, in the user's units and in the order of `names` (that of JAX's pytrees: the
        entries of a dict are ordered by key). The error of a parameter on its bound is 0, because to first order it
        cannot move. Errors are NaN if there is no valid covariance.
    - `lower`, `upper`: shape `(n_free,)`, the bounds of the free parameters; infinite where there is none.
    - `covariance`: a `Covariance`, or `None` for `fit(hesse=False)`.
    - `nll`: the minimum of the function, in its own units. `chi2` is twice that for `mx.LeastSquares`, else `None`.
    - `ndof`: the number of data minus the number of free parameters (a parameter on its bound does not count as free);
        `None` if the likelihood does not know the number of data.
    - `message`: how the fit ended, in words.
    - `edm`: the estimated vertical distance to the minimum before the last Newton step, in units of the function.
    - `valid`: whether this is a minimum that can be trusted; if not, `status` (an `mx.Status` number) says why.
    - `at_limit`: shape `(n_free,)`, whether a parameter is at a bound, or closer to it than half its error.
    - `on_kink`: shape `(n_free,)`, whether a parameter lies on a declared kink of the likelihood (interpolation codes
        0 and 1, `mx.Likelihood(kinks=...)`), where the slope changes sign. Its error follows from the mean rise to
        the two sides; MINOS gives a separate error for each side.
    - `stats`: `num_steps`, `num_values`, `num_gradients` (each with its value), `num_hessians` (each with value and
        gradient).
    - `minos`: the lower and upper errors, each of shape `(n_free,)`, in the `result` of `mx.minos`; else `None`.
    - `direction`: shape `(n_free,)`, for a fit that is not valid: the direction that the data do not determine, or in
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
        return with_all_leaves(self._params)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name in type(self).__dict__:  # a property that failed: its own error
                return object.__getattribute__(self, name)
            # without obj: Python would ask a second time whether something else was meant
            raise AttributeError(other_packages.of_result(name, dir(self)), name=name)

    def __getitem__(self, where: Where) -> Estimate:
        """`result["mu"]`: the value, error and bounds of one parameter, by name or by a function that picks a node.

        The error of a fixed parameter is 0.

        **Raises:** `TypeError` for anything else, such as an integer; `ValueError` for an unknown name.
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
        return element((self.values, self.errors, self.lower, self.upper, self.at_limit), index)

    def _ipython_key_completions_(self) -> list[str]:
        """What an editor offers after `result["`: parameters, fixed ones too, and the entries of vectors."""
        slots = flatten(self._first_lane().params)[1]
        vectors = [slot.name for slot in slots if slot.shape != ()]
        return list(dict.fromkeys([*(slot.name for slot in slots), *self.names, *vectors]))

    def sample(self, key: Array, n: int | None = None) -> Float[Array, "*batch draws n"]:
        """Draws the free parameters from the normal distribution of the fit's values and covariance.

        The draws ignore the bounds, but a parameter on a bound (with an error of 0) stays there.

        **Arguments:**

        - `key`: a key of `jax.random`.
        - `n`: the number of draws; `None` for one draw without this axis.

        **Returns:** shape `(n, n_free)`, after the axes of a batch of fits; NaN where there is no valid covariance.

        **Raises:** `ValueError` for `fit(hesse=False)`; `TypeError` for an invalid key or number.
        """
        if self.covariance is None:
            raise ValueError("sample needs the covariance: fit with hesse=True")
        if self.covariance.names != self.names:
            raise ValueError("sample needs the covariance of all parameters: fit without errors=")
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
        position = 0
        for slot in flatten(self._first_lane().params)[1]:
            take = slice(position, position := position + int(np.sum(slot.free)))
            if slot.fixed and name in (slot.name, *slot.element_names()):
                return partly_fixed(self.params, slot, name, self.errors[..., take], self.at_limit[..., take])
        return None

    def _first_lane(self) -> "FitResult":
        """One fit of a batch: the tree's structure and shapes are those of a single fit."""
        extra = jnp.ndim(self.nll)
        return jax.tree.map(lambda x: x[(0,) * extra], self) if extra else self

    @property
    def message(self) -> str:
        """How the fit ended, in words, with the direction or the entry of the data that is the cause.

        **Raises:** `ValueError` for a batch of fits: select one, `jax.tree.map(lambda x: x[3], results)`; `TypeError`
        inside `jax.jit`.
        """
        return message(self.status, self.direction, self.names, self.bad_data, self.data_paths, self.blame.text)

    def to_pandas(self) -> "DataFrame":
        """The parameters as a `pandas.DataFrame`. For one fit it has one row per parameter (also for fixed ones), with
        `value`, `error`, `minos_lower`, `minos_upper`, the bounds `lower` and `upper`, `fixed` and `at_limit`; unknown
        numbers are NaN. For many fits it has one row per fit, with the values of the free parameters by name, their
        errors (`mu_error`), MINOS errors if there are any (`mu_minos_lower`, `mu_minos_upper`), `nll`, `valid`, and the
        name of the `status`.

        **Raises:** `ImportError` without pandas; `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_pandas")
        return frame_of(self)

    def to_latex(self) -> str:
        """The parameters as a LaTeX `tabular`, which needs no package: values and errors rounded by the rule of the
        Particle Data Group, with MINOS errors if there are any. For many fits, the mean and the spread of each
        parameter over the valid fits.

        **Raises:** `TypeError` inside `jax.jit`.
        """
        refuse_traced(self, "to_latex")
        return latex.batch_latex(self._batch()) if np.ndim(self.nll) else latex.parameters_latex(self.parameter_rows())

    def _content(self) -> dict[str, Any]:
        told = () if np.ndim(self.nll) else ("message",)
        shown = ("algorithm", "nll", "edm", "up", "chi2", "ndof", "names")
        return {
            "valid": self.valid,
            "status": names_of(Status, self.status),
            **{name: getattr(self, name) for name in (*told, *shown)},
            "parameters": {name: _bounded(row) for name, row in parameters_of(self).items()},
            **{name: getattr(self, name) for name in ("covariance", "at_limit", "on_kink", "stats")},
        }

    def minimum_record(self) -> Minimum:
        """What the box of one fit shows."""
        status = Status(int(self.status))
        edm, goal = float(self.edm), EDM_GOAL * 2 * float(self.up)
        chi2 = None if self.chi2 is None or self._errors_from_scatter else float(self.chi2)
        covariance = "not computed"
        if self.covariance is not None:
            at = "exact" if bool(self.valid) else "elsewhere"
            covariance = at if bool(self.covariance.valid) else "not positive definite"
        accuracy = None if self.covariance is None else self.covariance.accuracy
        return Minimum(
            algorithm=self.algorithm,
            nll=float(self.nll),
            chi2_ndof=chi2 / int(self.ndof) if chi2 is not None and self.ndof is not None and self.ndof > 0 else None,
            edm=edm,
            edm_goal=goal,
            valid=bool(self.valid),
            status=status.phrase,
            message=self.message,
            at_limit=bool(np.asarray(self.at_limit).any()),
            at_call_limit=status is Status.MAX_STEPS,
            edm_above=not edm <= goal,
            num_values=int(self.stats["num_values"]),
            num_gradients=int(self.stats["num_gradients"]),
            num_hessians=int(self.stats["num_hessians"]),
            covariance=covariance,
            chi2=chi2,
            accuracy=None if accuracy is None else float(accuracy),
            some=self.covariance is not None and self.covariance.names != self.names,
        )

    def parameter_rows(self) -> list[Row]:
        """What the table of one fit shows: all parameters of the tree, the fixed ones too, in its order."""
        leaves, slots, _ = flatten(self.params)
        at_limits, errors = np.asarray(self.at_limit), np.asarray(self.errors)
        minos_errors = None if self.minos is None else np.asarray(self.minos)
        rows, position = [], 0
        for slot in slots:
            leaf, free = leaves[slot.leaf], slot.free
            values = np.ravel(np.asarray(value_of(leaf)))
            low, high = (_finite(b, slot.shape) for b in bounds_of(leaf))
            for i, name in enumerate(slot.element_names()):
                error, at_limit, minos = None, False, None
                if free[i]:
                    at_limit = bool(at_limits[position])
                    error = float(errors[position])
                    error = None if np.isnan(error) else error
                    minos = _minos_at(minos_errors, position)
                    position += 1
                rows.append(Row(name, float(values[i]), error, minos, low.get(i), high.get(i), not free[i], at_limit))
        return rows

    @property
    def _errors_from_scatter(self) -> bool:
        return self.covariance is not None and self.covariance.kind == "scaled"

    def _notes(self) -> list[str]:
        """Lines below the table of the parameters."""
        scatter = scatter_line(self.ndof, self.up) if self._errors_from_scatter else ""
        return [line for line in (constants_line(self.params), scatter, kinks_line(self.names, self.on_kink)) if line]

    def _batch(self) -> Batch:
        valid = np.ravel(np.asarray(self.valid))
        n = len(self.names)
        arrays = (self.values, self.errors, self.at_limit)
        values, errors, at_limit = (np.reshape(np.asarray(a), (-1, n))[valid] for a in arrays)
        rows = []
        for i, name in enumerate(self.names):
            if values.shape[0]:
                spread = float(np.std(values[:, i], ddof=1)) if values.shape[0] > 1 else float("nan")
                known = errors[errors[:, i] > 0, i]  # one at a limit has none
                error = float(np.mean(known)) if known.size else float("nan")
                rows.append((name, float(np.mean(values[:, i])), spread, error, int(np.sum(at_limit[:, i]))))
        return Batch(valid.size, int(valid.sum()), status_counts(self.status), rows)

    @property
    def _kind(self) -> str:
        return "Hesse" if self.covariance is None else self.covariance.kind.capitalize()

    def __repr__(self) -> str:
        if not is_concrete_tree(self):
            return f"FitResult(traced, names={self.names})"
        if np.ndim(self.nll):
            return text.batch_text(self._batch())
        parts = [text.minimum_text(self.minimum_record()), text.parameters_text(self.parameter_rows(), self._kind)]
        parts += [part for line in self._notes() for part in wrapped(line)]
        if self.covariance is not None and bool(self.covariance.valid):
            parts.append(text.correlation_text(self.covariance.names, np.asarray(self.covariance.matrix)))
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        if not is_concrete_tree(self):
            return f"<pre>{self!r}</pre>"
        if np.ndim(self.nll):
            return html.batch_html(self._batch())
        parts = [html.minimum_html(self.minimum_record()), html.parameters_html(self.parameter_rows(), self._kind)]
        parts += [html.paragraph(line) for line in self._notes()]
        if self.covariance is not None and bool(self.covariance.valid):
            parts.append(html.matrix_html(self.covariance.names, np.asarray(self.covariance.matrix)))
        return "\n".join(parts)


def _minos_at(errors: np.ndarray | None, position: int) -> tuple[float, float] | None:
    """The two errors of a parameter, of shape `(2, n)` for all."""
    if errors is None or np.all(np.isnan(errors[:, position])):
        return None
    return float(errors[0, position]), float(errors[1, position])


def _bounded(row: dict[str, Any]) -> dict[str, Any]:
    """Without the bounds that there are not."""
    bounds = {name: None if np.all(np.isinf(row[name])) else row[name] for name in ("lower", "upper")}
    return {**row, **bounds}


def _finite(bound: Any, shape: tuple[int, ...]) -> dict[int, float]:
    """The finite entries of a bound, by their position in row-major order."""
    if bound is None:
        return {}
    entries = np.ravel(np.broadcast_to(np.asarray(bound), shape))
    return {i: float(b) for i, b in enumerate(entries) if np.isfinite(b)}


def check_has_covariance(result: Any, what: str) -> None:
    """**Raises:** `TypeError`, `ValueError` unless `result` is a fit with a covariance."""
    if not isinstance(result, FitResult):
        raise TypeError(f"{what} takes the result of mx.fit, got {type(result).__name__}")
    if result.covariance is None:
        raise ValueError(f"{what} needs the covariance: fit with hesse=True")
    if result.covariance.names != result.names:
        raise ValueError(f"{what} needs the covariance of all parameters: fit without errors=")
