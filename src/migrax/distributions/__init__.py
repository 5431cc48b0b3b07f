"""Probability densities: `log_prob`, `cdf`, probabilities of bins that are precise in both tails, `sample`."""

from ._base import AbstractDistribution as AbstractDistribution
from .argus import Argus as Argus
from .cruijff import Cruijff as Cruijff
from .exponential import Exponential as Exponential
from .gamma import Gamma as Gamma
from .landau import Landau as Landau
from .normal import Normal as Normal
from .q_gaussian import QGaussian as QGaussian
from .student_t import StudentT as StudentT
from .voigt import Voigt as Voigt
