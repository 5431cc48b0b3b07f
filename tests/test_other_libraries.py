"""Likelihoods written with evermore, everwillow and pyhf: the page that shows how to fit them runs, and its numbers are
those of the same model written without these libraries, of iminuit, and of their own fits."""

import contextlib
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

pytestmark = pytest.mark.slow  # the page's blocks compile for some seconds
PAGE = Path(__file__).parent.parent / "docs" / "other_libraries.md"
# a block and what it prints, which stands right below it
PRINTED = re.compile(r"^```python\n(.*?)^```\n(?:```\n(.*?)^```)?", re.DOTALL | re.MULTILINE)


def run_section(heading):
    """The names that the blocks below `heading` define, after a look at what they print."""
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    code = PRINTED.findall(section.partition("\n## ")[0])
    assert len(code) >= 2
    namespace: dict = {}
    for block, shown in code:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(compile(block, f"{PAGE.name}: {heading}", "exec"), namespace)
        assert readable(told.getvalue()) == readable(shown), "the page's output is not what is printed"
    return namespace


def readable(text):
    """Without the lines that rounding decides on."""
    return [line for line in text.splitlines() if "EDM =" not in line and "Ngrad =" not in line]


def close(one, other, rtol=1e-9, atol=1e-9):
    np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def minuit(fcn, start, limits=None, held=None):
    """iminuit's minimum of a function of one array, as exactly as it can; `limits` and `held` by position."""
    iminuit = pytest.importorskip("iminuit")
    with_gradient = jax.jit(jax.value_and_grad(fcn))
    m = iminuit.Minuit(
        lambda x: float(with_gradient(x)[0]),
        np.asarray(start, float),
        grad=lambda x: np.asarray(with_gradient(x)[1]),
    )
    m.errordef, m.strategy, m.tol = 0.5, 2, 1e-8
    for i, bounds in (limits or {}).items():
        m.limits[i] = bounds
    for i, value in (held or {}).items():
        m.values[i], m.fixed[i] = value, True
    m.migrad()
    m.migrad()
    assert m.valid
    return m


@pytest.fixture(scope="class")
def page(request):
    """The names of the section that the class is of, which is skipped where its library is not installed."""
    pytest.importorskip(request.cls.LIBRARY)
    return run_section(request.cls.HEADING)


@pytest.fixture(scope="class")
def pyhf():
    """pyhf, whose backend is of the whole process, and is put back."""
    pyhf = pytest.importorskip("pyhf")
    before = pyhf.get_backend()
    yield pyhf
    pyhf.set_backend(*before)


class TestEvermore:
    LIBRARY = HEADING = "evermore"
    COUNTS = jnp.array([37.0, 34.0, 19.0])
    FEW = jnp.array([20.0, 15.0, 12.0])  # fewer than the background: mu on its bound
    BOUNDS = {1: (0.0, 10.0)}  # noqa: RUF012
    FROZEN = {0: 0.0}  # noqa: RUF012

    def by_hand(self, x, counts):
        """The page's likelihood by its formulas, of lumi, mu, norm, stat; Combine's asymmetric log-normal is smooth
        within half a sigma."""
        lumi, mu, norm, stat = x[0], x[1], x[2], x[3:]
        up, down, twice = jnp.log(1.1), -jnp.log(0.85), 2 * norm
        smooth = 0.125 * twice * (twice**2 * (3 * twice**2 - 10) + 15)
        outside = jnp.where(norm >= 0, up, down)
        slope = jnp.where(jnp.abs(norm) < 0.5, (up + down) / 2 + smooth * (up - down) / 2, outside)
        background = jnp.array([30.0, 25.0, 20.0]) * jnp.exp(norm * slope) * (1 + jnp.array([0.05, 0.06, 0.07]) * stat)
        expected = 1.02**lumi * (mu * jnp.array([3.0, 8.0, 4.0]) + background)
        return jnp.sum(expected - counts + counts * jnp.log(counts / expected)) + 0.5 * (x @ x - mu**2)

    def minuit(self, counts, **settings):
        return minuit(lambda x: self.by_hand(x, counts), np.full(6, 0.01), **settings)

    def test_the_fit_of_the_page(self, page):
        result, minos = page["result"], page["minos"]
        assert result.valid
        assert result.names == ("mu", "norm", "stat[0]", "stat[1]", "stat[2]")
        own = {
            "lumi": mx.Parameter(0.0, fixed=True),
            "mu": mx.Parameter(1.0, lower=0.0, upper=10.0),
            "norm": mx.Parameter(0.0),
            "stat": mx.Parameter(jnp.zeros(3), lower=-5.0, upper=5.0),
        }
        ours = mx.fit(lambda p, n: self.by_hand(jnp.hstack(jax.tree.leaves(p)), n), own, self.COUNTS)
        close(result.values, ours.values)
        close(result.errors, ours.errors)
        close(result.nll, ours.nll)
        m = self.minuit(self.COUNTS, held=self.FROZEN, limits=self.BOUNDS)
        close(result.values, m.values[1:], atol=1e-6)
        close(result.nll, m.fval)
        for end in (minos["mu"].lower, minos["mu"].upper):
            held = self.minuit(self.COUNTS, held={0: 0.0, 1: float(result["mu"].value + end)})
            close(held.fval - m.fval, 0.5)

    def test_errors_and_derivatives(self, page):
        """Of the likelihood's formulas, at the minimum: the inverse Hessian, and how it moves with the counts."""
        result, lumi = page["result"], jnp.zeros(1)
        gradient = jax.grad(lambda x, n: self.by_hand(jnp.concatenate([lumi, x]), n))
        hessian, mixed = jax.jit(jax.jacobian(gradient, argnums=(0, 1)))(result.values, self.COUNTS)
        covariance = np.linalg.inv(hessian)
        close(result.covariance.matrix, covariance, atol=1e-6)
        close(page["slope"], -(covariance @ mixed)[0], atol=1e-6)

    def test_back_to_evermore(self, page):
        evm = pytest.importorskip("evermore")
        best = page["best"]
        assert isinstance(best["stat"], evm.NormalParameter)
        assert best["lumi"].frozen
        close(best["mu"].get_value(), page["result"]["mu"].value)
        close(page["loss"](best, page["counts"]), page["result"].nll)

    def test_many_at_once(self, page):
        fits = page["fits"]
        assert fits.valid.tolist() == [True, True]
        close(fits.values[0], page["result"].values)
        m = self.minuit(self.COUNTS + 5.0, held=self.FROZEN, limits=self.BOUNDS)
        close(fits.values[1], m.values[1:], atol=1e-6)

    def test_bounds(self, page):
        result = mx.fit(page["nll"], page["start"], self.FEW)
        assert result.valid
        assert result["mu"].value == 0.0
        m = self.minuit(self.FEW, held={0: 0.0, 1: 0.0})
        close(result.values[1:], m.values[2:], atol=1e-6)
        close(result.nll, m.fval)

    def test_released(self, page):
        result = mx.fit(page["nll"], mx.release(page["start"], "lumi"), self.COUNTS)
        m = self.minuit(self.COUNTS, limits=self.BOUNDS)
        assert result.names[0] == "lumi"
        close(result.values, m.values, atol=1e-6)
        close(result.nll, m.fval)

    def test_constraints_as_data(self, page):
        """The same likelihood, whose toys draw the global observables too."""
        start, model, data = page["start"], page["model"], page["data"]
        x = jnp.array([0.3, 0.7, -0.8, 0.1, -0.4, 2.0])
        values = jax.tree.unflatten(jax.tree.structure(mx.resolve(start)), [x[0], x[1], x[2], x[3:]])
        close(model(values, data), self.by_hand(x, self.COUNTS))
        close(page["nll"](values, self.COUNTS), self.by_hand(x, self.COUNTS))
        toys, variance = page["toys"], np.diag(page["result"].covariance.matrix)[1:]
        assert np.all(toys.valid)
        # around fixed centres they would spread by the root of variance - variance**2 only, 0.43 and 0.25
        close(np.std(toys.values[:, 1:], axis=0), np.sqrt(variance), rtol=0.1)

    def test_without_the_bridge(self, page):
        """As the page says: bounds are ignored, frozen parameters float."""
        result = mx.fit(page["loss"], page["params"], self.FEW)
        m = self.minuit(self.FEW)
        assert result.names[:2] == ("lumi.value", "mu.value")
        assert result["mu.value"].value < 0.0
        close(result.values, m.values, atol=1e-6)

    def test_a_module_with_a_shared_parameter(self, page):
        evm = pytest.importorskip("evermore")
        from flax import nnx

        class Model(nnx.Module):
            def __init__(self):
                self.mu = evm.Parameter(1.0, lower=0.0)
                self.up = evm.NormalParameter(jnp.zeros(2), upper=jnp.array([3.0, 4.0]))
                self.same = self.up
                self.background = jnp.array([10.0, 20.0])

            def __call__(self):
                scaled = self.up.scale(slope=0.1, offset=1.0)(self.background)
                return self.mu.scale()(jnp.array([6.0, 1.0])) + self.same.scale(slope=0.05, offset=1.0)(scaled)

        graph, state, rest = nnx.split(Model(), evm.filter.is_parameter, ...)
        is_leaf = lambda p: isinstance(p, evm.BaseParameter)  # noqa: E731
        start = jax.tree.map(lambda p: mx.Parameter(p.get_value(), p.lower, p.upper), state, is_leaf=is_leaf)

        def nll(values, counts):
            model = nnx.merge(graph, values, rest)
            priors = jax.tree.map(jnp.sum, evm.loss.get_log_probs(model))
            return -evm.pdf.PoissonContinuous(model()).log_prob(counts).sum() - evm.util.sum_over_leaves(priors)

        counts = jnp.array([14.0, 19.0])
        result = mx.fit(nll, start, counts)
        assert result.valid
        assert result.names == ("mu", "same[0]", "same[1]")

        def by_hand(x):
            expected = x[0] * jnp.array([6.0, 1.0]) + jnp.array([10.0, 20.0]) * (1 + 0.1 * x[1:]) * (1 + 0.05 * x[1:])
            return jnp.sum(expected - counts + counts * jnp.log(counts / expected)) + 0.5 * jnp.sum(x[1:] ** 2)

        m = minuit(by_hand, [1.0, 0.0, 0.0], limits={0: (0.0, None)})
        close(result.values, m.values, atol=1e-6)
        close(result.nll, m.fval)


class TestEverwillow:
    LIBRARY = HEADING = "everwillow"

    def by_hand(self, x, counts=(55.0, 58.0)):
        """The page's likelihood, of bkg and mu."""
        expected = x[1] * jnp.array([12.0, 11.0]) + x[0] * jnp.array([50.0, 52.0])
        return jnp.sum(expected - jnp.asarray(counts) * jnp.log(expected)) + 0.5 * ((1.0 - x[0]) / 0.1) ** 2

    def test_the_fit_of_the_page(self, page):
        result, minos = page["result"], page["minos"]
        assert result.valid
        assert result.names == ("bkg", "mu")
        m = minuit(self.by_hand, [1.0, 1.0])
        close(result.values, m.values, atol=1e-6)
        close(result.nll, m.fval, rtol=1e-12)
        close(result.covariance.matrix, np.linalg.inv(jax.hessian(self.by_hand)(result.values)), atol=1e-6)
        for end in (minos["mu"].lower, minos["mu"].upper):
            held = minuit(self.by_hand, [1.0, 1.0], held={1: float(result["mu"].value + end)})
            close(held.fval - m.fval, 0.5)
        m = minuit(self.by_hand, [1.0, 1.0], held={0: 1.0})
        assert page["held"].names == ("mu",)
        close(page["held"]["mu"].value, m.values[1], atol=1e-6)

    def test_its_own_fit(self, page):
        ew = pytest.importorskip("everwillow")
        import optimistix as optx
        from everwillow.uncertainty import uncertainties

        nll, state, observed, result = page["nll"], page["state"], page["observed"], page["result"]
        found = ew.fit(nll, state, observed, solver=optx.BFGS(rtol=1e-12, atol=1e-12))
        close(jax.tree.leaves(found.params.to_pytree()), result.values, atol=1e-7)
        close(found.nll, result.nll, rtol=1e-12)
        best = page["sl"].State.from_pytree(mx.resolve(result.params))
        close(jax.tree.leaves(uncertainties(nll, best, observed)), result.errors)
        for solver in (mx.Newton(), mx.Migrad()):  # as the page says, in everwillow's hands; within MIGRAD's goal
            theirs = ew.fit(nll, state, observed, solver=solver)
            assert theirs.success
            close(theirs.nll, result.nll, atol=1e-4)

    def test_its_own_limit(self, page):
        pytest.importorskip("everwillow")
        from everwillow.hypotest.calculators import AsymptoticCalculator
        from everwillow.hypotest.upper_limit import upper_limit

        model, start, observed, sl = page["model"], page["start"], page["observed"], page["sl"]
        background = mx.fit(model, mx.fix(start, "mu", 0.0), observed)
        calculator = AsymptoticCalculator(
            nll_fn=page["nll"],
            params=sl.State.from_pytree(mx.resolve(background.params)),
            observation=observed,
            poi_key="mu",
            predict_fn=lambda state: page["predict"](state.to_pytree()),
        )
        theirs = upper_limit(lambda mu: calculator.cls(calculator.test(mu)), (0.01, 5.0), rtol=1e-8, atol=1e-8)
        ours = mx.upper_limit(model, start, observed, "mu")
        close(theirs, ours.observed, rtol=1e-5)  # its fits stop at 1e-5

    def test_joined(self, page):
        ew = pytest.importorskip("everwillow")
        import optimistix as optx

        joint = page["joint"]
        assert joint.valid
        assert joint.names == ("bkg", "mu")
        m = minuit(lambda x: self.by_hand(x) + 100 * x[0] - 97.0 * jnp.log(100 * x[0]), [1.0, 1.0])
        close(joint.values, m.values, atol=1e-6)
        observed = {**page["observed"], "control": 97.0}
        theirs = ew.fit(page["together"], page["merged"], observed, solver=optx.BFGS(rtol=1e-12, atol=1e-12))
        close([theirs.params["bkg"], theirs.params["mu"]], joint.values, atol=1e-7)

    def test_many_at_once_and_derivatives(self, page):
        nll, start, toys = page["nll"], page["start"], page["toys"]
        assert np.all(toys.valid)
        close(np.std(toys.values, axis=0), page["result"].errors, rtol=0.12)
        counts = jnp.array([[55.0, 58.0], [70.0, 62.0], [40.0, 45.0]])
        fit = lambda n: mx.fit(nll, start, {"counts": n, "bkg": 1.0})  # noqa: E731
        values, slopes = jax.jit(jax.vmap(jax.value_and_grad(lambda n: fit(n)["mu"].value)))(counts)
        for n, value in zip(np.array(counts), values, strict=True):
            m = minuit(lambda x, n=n: self.by_hand(x, n), [1.0, 1.0], held={} if value > 0 else {1: 0.0})
            close(value, m.values[1], atol=1e-6)
        assert values[2] == 0.0
        close(slopes[2], 0.0)
        h = 1e-4
        for i in range(2):
            step = h * np.eye(2)[i]
            change = fit(counts[0] + step)["mu"].value - fit(counts[0] - step)["mu"].value
            close(change / (2 * h), slopes[0, i], atol=1e-7)

    def test_the_state_itself(self, page):
        result = mx.fit(page["nll"], page["state"], page["observed"])
        assert result.names == ("_mapping.bkg", "_mapping.mu")
        close(result.values, page["result"].values)


# pyhf's schema validator uses a class that jsonschema is about to remove
@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
@pytest.mark.usefixtures("pyhf")
class TestPyhf:
    LIBRARY, HEADING = "pyhf", "pyhf's own logpdf"

    def workspace(self, pyhf, third=3.0):
        """The model of the page with a luminosity, a log-normal systematic, and one more bin without an error."""
        norm = {"type": "normsys", "name": "norm", "data": {"hi": 1.1, "lo": 0.92}}
        rate = {"type": "shapesys", "name": "rate", "data": [3.0, 7.0, 0.0]}
        samples = {
            "signal": ([12.0, 11.0, 0.0], [{"type": "normfactor", "name": "mu", "data": None}]),
            "background": ([50.0, 52.0, 0.0], [rate, norm]),
            "flat": ([2.0, 2.0, third], [{"type": "lumi", "name": "lumi", "data": None}]),
        }
        lumi = {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "bounds": [[0.9, 1.1]], "inits": [1.0]}
        return {
            "channels": [
                {
                    "name": "SR",
                    "samples": [{"name": n, "data": d, "modifiers": m} for n, (d, m) in samples.items()],
                }
            ],
            "observations": [{"name": "SR", "data": [59.0, 57.0, third]}],
            "measurements": [{"name": "search", "config": {"poi": "mu", "parameters": [lumi]}}],
            "version": "1.0.0",
        }

    def bridge(self, pyhf, spec):
        """The page's lines for a workspace."""
        pyhf.set_backend("jax", precision="64b")
        workspace = pyhf.Workspace(spec)
        model = workspace.model()
        c = model.config
        settings = zip(c.suggested_init(), c.suggested_bounds(), c.suggested_fixed(), strict=True)
        start = {
            name: mx.Parameter(value, lower, upper, fixed)
            for name, (value, (lower, upper), fixed) in zip(c.par_names, settings, strict=True)
        }
        nll = lambda p, d: -model.logpdf(jnp.stack([p[name] for name in c.par_names]), d)[0]  # noqa: E731
        return model, nll, start, jnp.asarray(workspace.data(model))

    def tight(self, pyhf):
        pyhf.set_backend("jax", pyhf.optimize.minuit_optimizer(tolerance=1e-8, strategy=2), precision="64b")

    def test_the_fit_of_the_page(self, page, pyhf):
        pytest.importorskip("iminuit")
        result, minos, model, data = page["result"], page["minos"], page["model"], page["data"]
        assert result.valid
        assert list(result.names) == model.config.par_names
        self.tight(pyhf)
        values, fun = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
        close(result.values, values, atol=1e-6)
        close(2 * result.nll, fun)
        assert model.config.poi_index == 0
        for end in (minos["mu"].lower, minos["mu"].upper):
            mu = float(result["mu"].value + end)
            _, held = pyhf.infer.mle.fixed_poi_fit(mu, data, model, return_fitted_val=True)
            close(held - fun, 1.0, atol=1e-7)

    def test_limit(self, page, pyhf):
        """pyhf's own CLs is 0.05 at the page's limit, whatever did the fits."""
        pytest.importorskip("iminuit")
        likelihood, start, data, model = (page[name] for name in ("likelihood", "start", "data", "model"))
        limit = mx.upper_limit(likelihood, start, data, "mu").observed
        self.tight(pyhf)
        close(pyhf.infer.hypotest(float(limit), data, model), 0.05, atol=1e-6)

    def test_a_workspace(self, pyhf):
        """The fits of pyhf, of its logpdf, and of `mx.io.from_pyhf`."""
        pytest.importorskip("iminuit")
        spec = self.workspace(pyhf)
        model, nll, start, data = self.bridge(pyhf, spec)
        result = mx.fit(nll, start, data)
        read, params, its_data = mx.io.from_pyhf(spec)
        ours = mx.fit(read, params, its_data)
        assert result.valid
        assert ours.valid
        assert result.names == ours.names == ("lumi", "mu", "norm", "rate[0]", "rate[1]")  # rate[2] is fixed
        close(result.values, ours.values)
        close(result.errors, ours.errors)
        close(result.nll, ours.nll)
        self.tight(pyhf)
        values, fun = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
        close(result.values, values[:5], atol=1e-6)
        close(2 * result.nll, fun)

    def test_many_at_once_and_derivatives(self, page):
        nll, start, data = page["nll"], page["start"], page["data"]
        many = jnp.stack([data, data.at[0].add(9.0), data.at[:2].add(-25.0)])

        def mu(d):
            result = mx.fit(nll, start, d)
            return result["mu"].value, result

        (_, fits), slopes = jax.jit(jax.vmap(jax.value_and_grad(mu, has_aux=True)))(many)
        assert fits.valid.tolist() == [True, True, True]
        assert fits.values[2, 0] == 0.0
        close(slopes[2], 0.0)
        for d, values in zip(many, fits.values, strict=True):
            close(mx.fit(nll, start, d).values, values)
        h = 1e-4
        for i in (0, 3):
            change = mu(data.at[i].add(h))[0] - mu(data.at[i].add(-h))[0]
            close(change / (2 * h), slopes[0, i], atol=1e-7)

    def test_a_bin_without_expectation(self, pyhf):
        """As the page says: not valid by pyhf's logpdf, which has no gradient there; fine by `mx.io.from_pyhf`."""
        spec = self.workspace(pyhf, third=0.0)
        _, nll, start, data = self.bridge(pyhf, spec)
        assert not mx.fit(nll, start, data).valid
        read, params, its_data = mx.io.from_pyhf(spec)
        close(read(params, its_data), nll(mx.resolve(start), data))
        slopes = jax.jit(jax.grad(lambda p: read(p, its_data)))(mx.resolve(params))
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes))

    def test_the_other_backend_fails(self, page, pyhf):
        pyhf.set_backend("numpy")
        try:
            with pytest.raises(Exception, match="tracer"):
                mx.fit(lambda p, d: page["nll"](p, d), page["start"], page["data"])
        finally:
            pyhf.set_backend("jax", precision="64b")
