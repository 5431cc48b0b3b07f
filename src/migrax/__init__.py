"""migrax: maximum-likelihood fitting inside JAX."""

from ._fit import fit as fit, FitError as FitError
from ._hesse import hesse as hesse
from ._parameter import Parameter as Parameter
from ._result import Covariance as Covariance, FitResult as FitResult
from ._solvers import LevenbergMarquardt as LevenbergMarquardt, Migrad as Migrad, Newton as Newton, Simplex as Simplex
from ._status import Status as Status
from ._chunks import chunked_sum as chunked_sum
from ._likelihoods import LeastSquares as LeastSquares, Points as Points, PoissonNLL as PoissonNLL
from . import distributions as distributions
