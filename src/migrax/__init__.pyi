# The public names and where they stand. `__init__.py` reads this file: each is imported when it is first asked for.

from . import distributions as distributions, io as io, plot as plot
from ._chunks import chunked_sum as chunked_sum
from ._contour import Contour as Contour, contour as contour
from ._disk import OnDisk as OnDisk
from ._fit import FitError as FitError, fit as fit
from ._fix import fix as fix, release as release
from ._goodness import GoodnessOfFit as GoodnessOfFit, goodness_of_fit as goodness_of_fit
from ._hesse import hesse as hesse
from ._hypotest import (
    Q0 as Q0,
    Asymptotic as Asymptotic,
    Discovery as Discovery,
    HypoTest as HypoTest,
    Interval as Interval,
    LimitStatus as LimitStatus,
    LookElsewhere as LookElsewhere,
    QMu as QMu,
    QTilde as QTilde,
    TMu as TMu,
    TMuTilde as TMuTilde,
    UpperLimit as UpperLimit,
    discovery as discovery,
    hypotest as hypotest,
    interval as interval,
    look_elsewhere as look_elsewhere,
    upper_limit as upper_limit,
)
from ._impacts import Impacts as Impacts, impacts as impacts
from ._likelihoods import (
    BinnedNLL as BinnedNLL,
    Counts as Counts,
    Events as Events,
    ExtendedUnbinnedNLL as ExtendedUnbinnedNLL,
    External as External,
    Joint as Joint,
    LeastSquares as LeastSquares,
    Likelihood as Likelihood,
    LogNormalConstraint as LogNormalConstraint,
    NormalConstraint as NormalConstraint,
    Points as Points,
    PoissonConstraint as PoissonConstraint,
    PoissonNLL as PoissonNLL,
    TemplateNLL as TemplateNLL,
    UnbinnedNLL as UnbinnedNLL,
    effective as effective,
)
from ._minos import Minos as Minos, minos as minos
from ._minuit import Minuit as Minuit
from ._parameter import Parameter as Parameter, names as names, resolve as resolve
from ._profile import Profile as Profile, profile as profile, scan as scan
from ._propagate import propagate as propagate
from ._result import Covariance as Covariance, Estimate as Estimate, FitResult as FitResult
from ._sample import asimov as asimov, sample as sample
from ._search import Side as Side
from ._solvers import (
    LevenbergMarquardt as LevenbergMarquardt,
    Migrad as Migrad,
    Newton as Newton,
    Simplex as Simplex,
)
from ._status import Status as Status
from ._studies import (
    Bias as Bias,
    Bootstrap as Bootstrap,
    CoverageStudy as CoverageStudy,
    PullStudy as PullStudy,
    bias as bias,
    bootstrap as bootstrap,
    coverage_study as coverage_study,
    pull_study as pull_study,
)
from ._toy_source import Toys as Toys
from ._toys import fit_toys as fit_toys

__version__: str
