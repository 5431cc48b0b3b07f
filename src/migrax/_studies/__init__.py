"""Studies of the fits of many toys: pulls, coverage, bias, the bootstrap. One study per file."""

from .bias import Bias as Bias, bias as bias
from .bootstrap import Bootstrap as Bootstrap, bootstrap as bootstrap
from .coverage import CoverageStudy as CoverageStudy, coverage_study as coverage_study
from .pulls import PullStudy as PullStudy, pull_study as pull_study
