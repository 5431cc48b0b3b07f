"""Minimisers for Optimistix. They use only public names of `optimistix` and `lineax` and are independent of migrax's
parameters: `optx.minimise(fn, mx.Migrad(), y0)` works on any pytree."""

from .levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from .migrad import Migrad as Migrad
from .newton import Newton as Newton
from .newton_cg import NewtonCG as NewtonCG
from .simplex import Simplex as Simplex
