"""Names that users of iminuit, SciPy and zfit look for, and their counterparts here, for error messages."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# for each class of iminuit.cost: the likelihood, its data, and the functions that have to be rewritten
COSTS: dict[str, tuple[str, str, str]] = {
    "LeastSquares": ("mx.LeastSquares(model)", "mx.Points(x, y, yerr)", "model(params, x)"),
    "UnbinnedNLL": (
        "mx.UnbinnedNLL(log_prob)",
        "x",
        "log_prob(params, x), such as mx.distributions.Normal(params['mu'], params['sigma']).log_prob(x),",
    ),
    "ExtendedUnbinnedNLL": (
        "mx.ExtendedUnbinnedNLL(log_density, total)",
        "x",
        "log_density(params, x), with the log_prob of mx.distributions, and total(params)",
    ),
    "BinnedNLL": (
        "mx.BinnedNLL(log_expected=log_expected)",
        "n",
        "log_expected(params), such as mx.distributions.Normal(params['mu'], params['sigma']).log_bin_integrals(xe),",
    ),
    "ExtendedBinnedNLL": (
        "mx.PoissonNLL(expected)",
        "n",
        "expected(params), the counts in the bins (mx.distributions has integrals over bins),",
    ),
    "Template": ("mx.TemplateNLL({'x0': template0, 'x1': template1})", "n", ""),
    "NormalConstraint": ("mx.NormalConstraint('x', error)", "value", ""),
    "CostSum": ("mx.UnbinnedNLL(log_prob) + mx.NormalConstraint('x', error)", "(x, value)", "log_prob(params, x)"),
}

# names of these in migrax, where they differ
LIKELIHOODS = {"ExtendedBinnedNLL": "PoissonNLL", "Template": "TemplateNLL", "CostSum": "Joint"}

TAKES_DATA_LATER = {LIKELIHOODS.get(theirs, theirs): cost for theirs, cost in COSTS.items() if theirs != "CostSum"}

_MODULE = {
    **{theirs: f"it is mx.{ours} here" for theirs, ours in LIKELIHOODS.items()},
    "cost": "likelihoods are in mx itself, such as mx.UnbinnedNLL, mx.BinnedNLL, mx.LeastSquares",
    "migrad": "mx.fit(nll, params, data) runs MIGRAD; mx.Migrad() is its solver",
    "simplex": "write mx.fit(nll, params, data, solver=mx.Simplex())",
    "minimize": "write mx.fit(nll, params, data)",
    "mncontour": "it is mx.contour here",
    "mnprofile": "it is mx.profile here",
    "describe": "write mx.names(params)",
    "loss": "likelihoods are in mx itself, such as mx.UnbinnedNLL",
    "pdf": "densities are in mx.distributions",
}

_RESULT = {
    "fval": "nll",
    "fun": "nll",
    "fmin": "nll, .valid, .edm and .message",
    "x": "values",
    "value": "values, or result['mu'].value of one parameter",
    "error": "errors, or result['mu'].error of one parameter",
    "cov": "covariance.matrix",
    "correlation": "covariance.correlation",
    "success": "valid",
    "accurate": "covariance.valid",
    "converged": "valid",
    "parameters": "names",
    "limits": "lower and .upper",
    "merrors": "minos, of mx.minos(nll, result, data).result",
    "nfcn": "stats['num_values']",
    "ngrad": "stats['num_gradients']",
    "nit": "stats['num_steps']",
}

_FUNCTIONS = {
    "hesse": "mx.hesse(nll, result.params, data)",
    "migrad": "mx.fit(nll, result.params, data)",
    "profile": "mx.profile(nll, result, data, 'mu')",
    "mnprofile": "mx.profile(nll, result, data, 'mu')",
    "scan": "mx.scan(nll, result, data, 'mu')",
    "contour": "mx.contour(nll, result, data, ('mu', 'sigma'))",
    "mncontour": "mx.contour(nll, result, data, ('mu', 'sigma'))",
    "draw_profile": "mx.plot.profile(mx.scan(nll, result, data, 'mu'))",
    "draw_mnprofile": "mx.plot.profile(mx.profile(nll, result, data, 'mu'))",
    "draw_mncontour": "mx.plot.contour(mx.contour(nll, result, data, ('mu', 'sigma')))",
    "visualize": "mx.plot.data_and_model(nll, result, data)",
    "plot": "mx.plot.data_and_model(nll, result, data)",
}


def of_module(package: str, name: str, known: Iterable[str]) -> str:
    """Returns the message for a name that a package of migrax does not have."""
    message = f"module {package!r} has no attribute {name!r}"
    if package == "migrax" and name in _MODULE:
        return f"{message}: {_MODULE[name]}"
    return message + _near(name, known)


def of_result(name: str, known: Iterable[str]) -> str:
    """Returns the message for a name that a result does not have."""
    if name in _RESULT:
        return f"a FitResult has no {name!r}: here it is .{_RESULT[name]}"
    if name in _FUNCTIONS:
        return f"a FitResult has no {name!r}: it knows nothing of the likelihood. Write {_FUNCTIONS[name]}"
    return f"'FitResult' object has no attribute {name!r}{_near(name, known)}"


def _near(name: str, known: Iterable[str]) -> str:
    by_lower = {k.lower(): k for k in known if not k.startswith("_")}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return f". Did you mean {by_lower[near[0]]!r}?" if near else ""


def of_data(likelihood: str) -> str:
    """Returns the message for a likelihood that was constructed with its data, as those of iminuit are."""
    constructor, data, functions = TAKES_DATA_LATER[likelihood]
    remark = f", where {functions.rstrip(',')} is written with jax.numpy" if functions else ""
    return f"mx.{likelihood} takes no data: the fit does. Write mx.fit({constructor}, params, {data}){remark}"


def keywords(meant: Mapping[str, str], otherwise: str = "") -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Returns a decorator that adds a hint to the error for an unknown keyword.

    **Arguments:**

    - `meant`: for keywords of other packages, what to write here.
    - `otherwise`: the hint for other keywords in calls without `params`, the second argument.
    """

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        known = [p.name for p in inspect.signature(fn).parameters.values() if p.name != "self"]
        name = fn.__qualname__.removesuffix(".__init__")

        @functools.wraps(fn)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            for key in kwargs:
                if key not in known:
                    alone = len(args) < 2 and "params" not in kwargs
                    hint = f": {meant[key]}" if key in meant else _near(key, known) or (otherwise if alone else "")
                    raise TypeError(f"mx.{name} has no argument {key!r}{hint}")
            return fn(*args, **kwargs)

        return checked

    return decorate


_BOUNDS = "write mx.Parameter(value, lower=0.0, upper=1.0)"
PARAMETER: Mapping[str, str] = {
    **dict.fromkeys(("limits", "bounds", "limit", "range"), _BOUNDS),
    **dict.fromkeys(("min", "low", "lb", "minimum"), "it is lower"),
    **dict.fromkeys(("max", "high", "ub", "maximum"), "it is upper"),
    **dict.fromkeys(
        ("error", "stepsize", "step_size", "step"), "derivatives are exact, no step is needed: leave it out"
    ),
    "name": "its name is its place in the tree, such as the key in {'mu': mx.Parameter(1.0)}",
    "vary": "write fixed=True for one that does not",
    "floating": "write fixed=True for one that does not",
    "constant": "it is fixed",
}

STARTS = ". The starts are one tree, as in mx.fit(nll, {'mu': 0.0, 'sigma': mx.Parameter(1.0, lower=0.0)}, data)"
_IN_TREE = "it belongs to each parameter, as in {'mu': mx.Parameter(1.0, lower=0.0, upper=2.0)}"
FIT: Mapping[str, str] = {
    **dict.fromkeys(("limits", "bounds"), _IN_TREE),
    **dict.fromkeys(("fixed", "fix"), "it belongs to each parameter, as in {'mu': mx.Parameter(1.0, fixed=True)}"),
    **dict.fromkeys(("x0", "start", "init"), "the starts are params, the second argument"),
    "errordef": "it is up (0.5 for minus log L, 1.0 for a user's own chi2)",
    "args": "what the likelihood takes beside the parameters is data, the third argument",
    "method": "write solver=mx.Simplex() for another solver",
    "minimizer": "write solver=mx.Simplex() for another solver",
    "strategy": "there is one strategy, that of exact derivatives",
    **dict.fromkeys(("jac", "grad", "hess", "gradient"), "derivatives are exact by themselves: leave it out"),
    "tol": "exact second derivatives tell the EDM, which must be below MINUIT's goal: leave it out",
    **dict.fromkeys(("ncall", "maxiter", "max_iter"), "it is max_steps"),
    "weights": "they belong to the data, mx.Events(x, weight)",
    "key": "a fit draws nothing",
    "cov": "it is covariance",
    "minos": "write mx.minos(nll, result, data) after it",
    **dict.fromkeys(("x", "y", "edges", "counts"), "data are one tree, the third argument"),
    "verbose": "print(result) shows how it went",
}
