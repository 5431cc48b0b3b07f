"""Probability densities: `log_prob`, `cdf`, probabilities of bins that are precise in both tails, `sample`."""

from ._base import AbstractDistribution as AbstractDistribution
from .exponential import Exponential as Exponential
from .normal import Normal as Normal
