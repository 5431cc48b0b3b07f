"""Probability distributions that fits can trust in their tails. One family a file."""

from .normal import Normal as Normal
