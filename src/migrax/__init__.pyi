# The public names and where they stand. `__init__.py` reads this file: each is imported when it is first asked for.

from . import distributions as distributions, io as io, plot as plot
from ._fit.covariance import Covariance as Covariance
from ._fit.estimate import Estimate as Estimate
from ._fit.fit import FitError as FitError, fit as fit
from ._fit.hesse import hesse as hesse
from ._fit.propagate import propagate as propagate
from ._fit.result import FitResult as FitResult
from ._fit.status import Status as Status
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
    SparseEffects as SparseEffects,
    TemplateNLL as TemplateNLL,
    UnbinnedNLL as UnbinnedNLL,
    effective as effective,
)
from ._parameters.fix import fix as fix, release as release
from ._parameters.names import names as names
from ._parameters.parameter import Parameter as Parameter
from ._parameters.resolve import resolve as resolve
from ._profile.contour import Contour as Contour, contour as contour
from ._profile.crossing import Side as Side
from ._profile.impacts import Impacts as Impacts, impacts as impacts
from ._profile.minos import Minos as Minos, minos as minos
from ._profile.profile import Profile as Profile, profile as profile, scan as scan
from ._solvers import (
    LevenbergMarquardt as LevenbergMarquardt,
    Migrad as Migrad,
    Newton as Newton,
    NewtonCG as NewtonCG,
    Simplex as Simplex,
)
from ._stores.merge import merge as merge
from ._stores.open_store import (
    StatisticStore as StatisticStore,
    StudyStore as StudyStore,
    ToyStore as ToyStore,
    open_store as open_store,
)
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
from ._toys.fit_toys import fit_toys as fit_toys, reduce_toys as reduce_toys
from ._toys.goodness_of_fit import GoodnessOfFit as GoodnessOfFit, goodness_of_fit as goodness_of_fit
from ._toys.sample import asimov as asimov, sample as sample
from ._toys.source import Toys as Toys
from ._util.cache import cache as cache
from ._util.chunks import chunked_sum as chunked_sum
from ._util.on_disk import OnDisk as OnDisk
from .compat.minuit import Minuit as Minuit
from .io.saved import load as load, save as save

__version__: str
