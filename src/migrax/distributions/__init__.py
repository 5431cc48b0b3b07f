"""Probability densities: `log_prob`, `cdf`, probabilities of bins that are precise in both tails, `sample`."""

from ._base import AbstractDistribution as AbstractDistribution
from .argus import Argus as Argus
from .bernstein import Bernstein as Bernstein
from .breit_wigner import Cauchy as Cauchy, RelativisticBreitWigner as RelativisticBreitWigner
from .chebyshev import Chebyshev as Chebyshev
from .convolution import Convolution as Convolution
from .cruijff import Cruijff as Cruijff
from .crystal_ball import (
    AsymmetricCrystalBall as AsymmetricCrystalBall,
    CrystalBall as CrystalBall,
    DoubleCrystalBall as DoubleCrystalBall,
)
from .exponential import Exponential as Exponential
from .extreme_value import GeneralizedExtremeValue as GeneralizedExtremeValue
from .gamma import Gamma as Gamma
from .histogram import HistogramTemplate as HistogramTemplate
from .interpolated import Interpolated as Interpolated
from .kernel_density import KernelDensity as KernelDensity
from .landau import Landau as Landau
from .log_normal import LogNormal as LogNormal
from .mixture import Mixture as Mixture
from .morphing import Morph as Morph
from .moyal import Moyal as Moyal
from .normal import Normal as Normal
from .normalized import Normalized as Normalized, integrate as integrate
from .pareto import GeneralizedPareto as GeneralizedPareto
from .poisson import Poisson as Poisson
from .product import Product as Product
from .q_gaussian import QGaussian as QGaussian
from .student_t import StudentT as StudentT
from .truncated import Truncated as Truncated, TruncatedNormal as TruncatedNormal
from .uniform import Uniform as Uniform
from .voigt import Voigt as Voigt
from .weibull import Weibull as Weibull
