"""Likelihoods: each is a callable `nll(params, data)`, minus the log of the likelihood. One family a file."""

from .base import AbstractLikelihood as AbstractLikelihood, Joint as Joint
from .binned import BinnedNLL as BinnedNLL
from .constraint import (
    LogNormalConstraint as LogNormalConstraint,
    NormalConstraint as NormalConstraint,
    PoissonConstraint as PoissonConstraint,
)
from .counts import Counts as Counts
from .effective import effective as effective
from .events import Events as Events
from .external import External as External
from .function import Likelihood as Likelihood
from .least_squares import LeastSquares as LeastSquares, Points as Points
from .poisson import PoissonNLL as PoissonNLL
from .sparse_effects import SparseEffects as SparseEffects
from .template import TemplateNLL as TemplateNLL
from .unbinned import ExtendedUnbinnedNLL as ExtendedUnbinnedNLL, UnbinnedNLL as UnbinnedNLL
