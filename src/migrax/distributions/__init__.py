"""Probability densities: `log_prob`, `cdf`, probabilities of bins that are precise in both tails, `sample`."""

from ._base import AbstractDistribution as AbstractDistribution
from .convolution import Convolution as Convolution
from .exponential import Exponential as Exponential
from .histogram import HistogramTemplate as HistogramTemplate
from .interpolated import Interpolated as Interpolated
from .kernel_density import KernelDensity as KernelDensity
from .mixture import Mixture as Mixture
from .morphing import Morph as Morph
from .normal import Normal as Normal
from .normalized import Normalized as Normalized, integrate as integrate
from .product import Product as Product
