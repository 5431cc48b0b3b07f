"""Fits ranges of toys, in pieces that fit into memory."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._fit.result import FitResult
from .._util.typing import PyTree
from .fit_batch import Rows, fit_part, fit_sharded, refit_failed
from .memory import budget
from .plan import Job, Plan
from .sharding import everywhere, gathered, over_lanes


class Calls:
    """Fits ranges of toys, in pieces that fit into memory."""

    def __init__(self, job: Job, batch_plan: Plan, alone: bool):
        """`alone`: there is one batch, which is not stored."""
        self.job, self.how, self.lanes, self.alone = job, batch_plan, batch_plan.lanes, alone
        self.piece = batch_plan.rows(batch_plan.size)
        self.limit = budget(job.device, max(batch_plan.workers, 1)) * batch_plan.devices
        self.warned = self.ready = False

    def compile(self) -> None:
        """Compiles the program in the calling thread and shrinks the pieces if it needs too much memory."""
        while not self.ready:
            inputs = self._inputs(0, 0, self.piece)
            if self.job.mesh is None:
                needed: int | None = fit_part.memory(  # pyright: ignore[reportFunctionMemberAccess]
                    self.job.shared, inputs, self.job.options, self.lanes
                )
                if needed is not None and needed > self.limit and self._can_shrink():
                    self._shrink()
                    continue
            self.ready = True

    def _inputs(self, first: int, n: int, piece: int) -> Rows:
        job, numbers = self.job, np.minimum(first + np.arange(piece), self.job.source.n - 1)
        toys = job.source.take(numbers, job.mesh)
        starts = None if job.starts is None else over_lanes(job.mesh, jnp.asarray(job.starts[numbers]))
        return toys, starts, over_lanes(job.mesh, jnp.asarray(np.arange(piece) < n))

    def launch(self, first: int, n: int, piece: int) -> list[tuple[int, PyTree, FitResult, Array]]:
        """Starts the pieces of a batch: for each the number of toys, the toys, their fits, and which to trust.

        `piece` is an argument because another thread may shrink `self.piece` in the meantime.
        """
        pieces, job = [], self.job
        for start in range(first, first + n, piece):
            n_piece = min(piece, first + n - start)
            inputs = self._inputs(start, n_piece, piece)
            if job.mesh is None:
                fits = fit_part(job.shared, inputs, job.options, self.lanes)
            else:
                shared = everywhere(job.mesh, job.shared)
                fits = gathered(job.mesh, fit_sharded(shared, inputs, job.options, self.lanes, job.mesh))
            pieces.append((n_piece, inputs[0], *fits))
        return pieces

    def land(self, pieces: list[tuple[int, PyTree, FitResult, Array]]) -> list[tuple[PyTree, FitResult, np.ndarray]]:
        """Converts the pieces to NumPy arrays, without the padding rows."""
        return [
            (toys, jax.tree.map(lambda a, n=n: np.asarray(a)[:n], result), np.asarray(trusted)[:n])
            for n, toys, result, trusted in pieces
        ]

    def finish(self, pieces: list[tuple[PyTree, FitResult, np.ndarray]]) -> FitResult:
        """Joins the pieces, with the full fit of the toys that are not trusted."""
        alone = self.alone and len(pieces) == 1
        results = [refit_failed(self.job, *piece, alone) for piece in pieces]
        return results[0] if len(results) == 1 else jax.tree.map(lambda *parts: np.concatenate(parts), *results)

    def _can_shrink(self) -> bool:
        return self.piece > self.lanes * self.how.devices

    def _shrink(self) -> None:
        self.piece = self.how.rows(self.piece // 2)

    def too_large(self, error: Exception, piece: int) -> None:
        """Halves the number of toys at once if `error` says that `piece` toys did not fit into memory; else raises the
        error again."""
        text = str(error)
        out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "ut of memory" in text
        if out_of_memory and piece > self.piece:
            return  # started before the pieces were shrunk
        if not out_of_memory or not self._can_shrink():
            raise error
        before = self.piece
        self._shrink()
        if not self.warned:
            warnings.warn(
                f"out of memory with {before} toys at once: continuing with {self.piece} (fit_toys(batch_size=...))",
                stacklevel=2,
            )
        self.warned = True
