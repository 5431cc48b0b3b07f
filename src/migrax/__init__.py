"""migrax: maximum-likelihood fitting inside JAX.

A likelihood is `nll(params, data) -> scalar`. `mx.fit` finds its minimum and the covariance of the parameters: at once
where it is called from Python, and as one XLA program where it is jitted, vmapped or differentiated.

    import jax, jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    import migrax as mx

    shape = jnp.array([1.0, 6.0, 2.0])
    nll = mx.PoissonNLL(lambda p: p["signal"] * shape + p["background"])
    params = {"signal": mx.Parameter(1.0), "background": mx.Parameter(5.0, lower=0.0)}
    counts = jnp.array([8.0, 14.0, 9.0])

    result = mx.fit(nll, params, counts)
    print(result)  # look at result.valid first; result.message says why not
    print(mx.minos(nll, result, counts))

Parameters       `Parameter`, `names`, `resolve`; `fix`, `release`
Fitting          `fit`, `hesse`, `FitResult`, `Estimate`, `Covariance`, `Status`, `FitError`; `Minuit`, all of it behind
                 an object with iminuit's names
Errors           `minos`, `Minos`, `Side`; `profile`, `scan`, `Profile`; `contour`, `Contour`; `impacts`, `Impacts`;
                 `propagate`
Solvers          `Migrad`, `Newton`, `NewtonCG`, `Simplex`, `LevenbergMarquardt`, for `fit` and for Optimistix
Likelihoods      `PoissonNLL`, `BinnedNLL`, `TemplateNLL` with `Counts`; `LeastSquares` with `Points`; `UnbinnedNLL`,
                 `ExtendedUnbinnedNLL` with `Events`; `NormalConstraint`, `PoissonConstraint`,
                 `LogNormalConstraint`; `Joint` (or `+`) of several; any function of your own, dressed by
                 `Likelihood`; `External` for those outside of JAX; `chunked_sum` and `OnDisk` for long data;
                 `SparseEffects` for thousands of parameters;
                 `effective` for weighted events; `sample`, `asimov`, `goodness_of_fit`, `GoodnessOfFit`
Toys             `fit_toys` of `Toys`, or of any data with a leading axis, `reduce_toys`; stores of them: `open_store`,
                 `merge`, `ToyStore`, `StudyStore`, `StatisticStore`; `pull_study`, `PullStudy`; `coverage_study`,
                 `CoverageStudy`; `bias`, `Bias`; `bootstrap`, `Bootstrap`
Hypotheses       `hypotest`, `HypoTest`; `discovery`, `Discovery`; `upper_limit`, `UpperLimit`, `LimitStatus`;
                 `interval`, `Interval`; `look_elsewhere`, `LookElsewhere`; by `Asymptotic` or `Toys`, with the
                 statistics `QTilde`, `QMu`, `Q0`, `TMu`, `TMuTilde`
Keeping          `save` and `load` any result; `to_dict`, `to_pandas` and `to_latex` of results; `cache` of programs
Distributions    `migrax.distributions`
Other packages   `migrax.io`: workspaces of pyhf and HS3, iminuit, histograms
Pictures         `migrax.plot`: data and model, profiles, contours, impacts, limits, toys (matplotlib)
Command line     `python -m migrax --help`: fits, limits and toys of workspaces
"""

from ._util.lazy import from_stub as _from_stub

__getattr__, __dir__, __all__ = _from_stub(__name__)
