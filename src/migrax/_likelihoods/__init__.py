"""Likelihoods: each is a callable `nll(params, data)`, minus the log of the likelihood. One family a file."""

from .least_squares import LeastSquares as LeastSquares, Points as Points
from .poisson import PoissonNLL as PoissonNLL
from .unbinned import Events as Events, ExtendedUnbinnedNLL as ExtendedUnbinnedNLL, UnbinnedNLL as UnbinnedNLL
