"""`fit_toys`: the numbers of single fits, whatever the batch; failures of their own; toys at a bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._toys import calls, memory

EDGES = jnp.linspace(-5.0, 5.0, 41)
TRUTH = {"mu": mx.Parameter(0.3), "n": mx.Parameter(500.0, lower=0.0), "sigma": mx.Parameter(1.2, lower=0.01)}
N = 300


def log_expected(p):
    return jnp.log(p["n"]) + mx.distributions.Normal(p["mu"], p["sigma"]).log_bin_integrals(EDGES)


NLL = mx.PoissonNLL(log_expected=log_expected)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def toys():
    return mx.sample(NLL, TRUTH, KEY, N)


@pytest.fixture(scope="module")
def fits(toys):
    return mx.fit_toys(NLL, TRUTH, toys, batch_size=128)


@pytest.fixture(scope="module")
def single(toys):
    return jax.jit(lambda some: jax.lax.map(lambda toy: mx.fit(NLL, TRUTH, toy), some))(toys)


def test_the_numbers_of_single_fits(fits, single):
    assert bool(jnp.all(fits.valid))
    assert fits.names == single.names
    assert np.max(np.abs(fits.values - single.values) / single.errors) < 1e-6
    np.testing.assert_allclose(fits.errors, single.errors, rtol=1e-4)
    np.testing.assert_allclose(fits.covariance.matrix, single.covariance.matrix, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(fits.nll, single.nll, rtol=1e-10)
    assert jax.tree.structure(fits) == jax.tree.structure(single)
    for got, wanted in zip(jax.tree.leaves(fits), jax.tree.leaves(single), strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype


def test_few_evaluations(fits):
    assert float(jnp.mean(fits.stats["num_gradients"])) < 4.5
    assert int(jnp.max(fits.stats["num_hessians"])) == 1


def test_pulls(fits):
    pulls = (fits.values - jnp.array([0.3, 500.0, 1.2])) / fits.errors
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 4 / N**0.5)
    assert np.all(np.abs(np.std(pulls, axis=0) - 1) < 4 / (2 * N) ** 0.5)


@pytest.mark.slow
def test_drawn_where_they_are_fitted(fits):
    """The same toys, whatever the batches; `reduce` sees them in order."""
    drawn = mx.fit_toys(NLL, TRUTH, mx.Toys(N, KEY), batch_size=128)
    np.testing.assert_array_equal(drawn.values, fits.values)
    parts = mx.reduce_toys(lambda result: result.values, NLL, TRUTH, mx.Toys(N, KEY), batch_size=77)
    assert [len(part) for part in parts] == [77, 77, 77, 69]
    np.testing.assert_allclose(np.concatenate(parts), fits.values, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_bad_toys_change_no_other(toys, fits):
    bad = np.arange(0, N, 10)
    poisoned = np.array(toys)
    poisoned[bad, 20] = np.nan
    found = mx.fit_toys(NLL, TRUTH, poisoned, batch_size=128)
    rest = np.setdiff1d(np.arange(N), bad)
    assert not np.any(found.valid[bad])
    np.testing.assert_array_equal(found.status[bad], int(mx.Status.NOT_FINITE_AT_START))
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(fits), strict=True):
        np.testing.assert_array_equal(got[rest], wanted[rest])


def test_without_second_derivatives(toys, single):
    fits = mx.fit_toys(NLL, TRUTH, toys, batch_size=128, hesse=False)
    assert bool(jnp.all(fits.valid))
    assert fits.covariance is None
    assert bool(jnp.all(jnp.isnan(fits.errors)))
    assert np.max(np.abs(fits.values - single.values) / single.errors) < 1e-5
    assert int(jnp.max(fits.stats["num_hessians"])) == 0


@pytest.mark.slow
@pytest.mark.parametrize("hesse", [True, False])
@pytest.mark.parametrize("upper", [None, 200.0])
def test_at_a_bound(upper, hesse):
    """No signal, which may not be negative: half of the toys end at 0, and all converge. In the coordinates of the
    search the slope vanishes on a bound: whoever does not leave it, and should, has not converged."""
    shape = jnp.exp(-0.5 * (jnp.arange(20) - 10.0) ** 2)

    def expected(p):
        return p["b"] * jnp.ones(20) + p["s"] * shape

    nll = mx.PoissonNLL(expected)
    params = {"b": mx.Parameter(50.0, lower=0.0), "s": mx.Parameter(0.0, lower=0.0, upper=upper)}
    n = 400
    start = mx.fit(nll, params, 50.0 - 20.0 * shape)  # pushed to the bound: it has no error there
    assert float(start["s"].error) == 0
    covariance = None if upper is None else start.covariance
    fits = mx.fit_toys(nll, params, mx.Toys(n, KEY), covariance=covariance, hesse=hesse)
    assert bool(jnp.all(fits.valid))
    at_zero = float(jnp.mean(fits.values[:, 1] == 0.0))
    assert abs(at_zero - 0.5) < 4 * 0.5 / n**0.5
    toys = mx.sample(nll, params, KEY, 40)
    single = jax.jit(lambda some: jax.lax.map(lambda toy: mx.fit(nll, params, toy), some))(toys)
    sizes = np.maximum(single.errors, 1e-3)
    assert np.max(np.abs(fits.values[:40] - single.values) / sizes) < (1e-6 if hesse else 1e-5)


def test_weighted_events_have_the_sandwich():
    rng = np.random.default_rng(1)
    x, weight = rng.normal(1.0, 2.0, (30, 200)), rng.uniform(0.2, 2.0, (30, 200))
    nll = mx.UnbinnedNLL(distribution=lambda p: mx.distributions.Normal(p["mu"], p["sigma"]))
    params = {"mu": mx.Parameter(1.0), "sigma": mx.Parameter(2.0, lower=0.1)}
    toys = jax.vmap(mx.Events)(jnp.asarray(x), jnp.asarray(weight))
    fits = mx.fit_toys(nll, params, toys, covariance=np.diag([0.02, 0.01]))
    one = mx.fit(nll, params, mx.Events(x[3], weight[3]))
    assert fits.covariance.kind == "sandwich"
    np.testing.assert_allclose(fits.errors[3], one.errors, rtol=1e-4)
    with pytest.warns(UserWarning, match="minos uses the shape of the likelihood"):  # as for a single fit
        mx.fit_toys(nll, params, jax.tree.map(lambda a: a[:2], toys), covariance=np.diag([0.02, 0.01]), minos=True)


class TestStarts:
    """Fits that start elsewhere end at the same minima."""

    @pytest.mark.slow
    def test_values(self, toys, fits):
        starts = np.tile([0.0, 450.0, 1.4], (N, 1))
        found = mx.fit_toys(NLL, TRUTH, toys, starts=starts, batch_size=128)
        assert np.max(np.abs(found.values - fits.values) / fits.errors) < 1e-6
        assert bool(jnp.all(found.valid))

    def test_other_fits(self, toys, fits):
        """From where the minimum is, one gradient a toy says so."""
        for starts in (fits, fits.params):
            found = mx.fit_toys(NLL, TRUTH, toys, starts=starts, batch_size=128)
            assert np.max(np.abs(found.values - fits.values) / fits.errors) < 1e-6
            assert int(jnp.max(found.stats["num_gradients"])) == 1

    @pytest.mark.slow
    def test_asimov(self):
        """Toys of one mean, fitted with another: the start is where they are expected to end."""
        fixed = TRUTH | {"mu": mx.Parameter(0.5, fixed=True)}
        toys = mx.Toys(N, KEY, params=TRUTH)
        near = mx.fit_toys(NLL, fixed, toys, starts="asimov")
        far = mx.fit_toys(NLL, fixed, toys)
        assert near.names == ("n", "sigma")
        assert bool(jnp.all(near.valid & far.valid))
        assert np.max(np.abs(near.values - far.values) / far.errors) < 1e-6
        assert jnp.mean(near.stats["num_gradients"]) <= jnp.mean(far.stats["num_gradients"])
        single = mx.fit(NLL, fixed, mx.sample(NLL, TRUTH, KEY, 8)[7])
        assert np.max(np.abs(near.values[7] - single.values) / single.errors) < 1e-6

    @pytest.mark.parametrize(
        ("starts", "message"),
        [
            (np.zeros((N, 2)), "starts must have shape"),
            (np.full((N, 3), -1.0), "the start of 'n' for toy 0 is -1.0"),
            (np.full((N, 3), np.nan), "the start of 'mu' for toy 0 is nan"),
            ("newton", "starts is 'asimov'"),
            ("asimov", "with mx.Toys"),
        ],
    )
    def test_bad(self, toys, starts, message):
        with pytest.raises(ValueError, match=message):
            mx.fit_toys(NLL, TRUTH, toys, starts=starts)


def test_minos_of_each(toys, single):
    """The numbers of mx.minos; NaN for parameters that were not asked for, and for a toy whose fit failed."""
    few = np.array(toys[:24])
    few[3, 20] = np.nan
    fits = mx.fit_toys(NLL, TRUTH, few, minos=["mu", "n"])
    one = mx.minos(NLL, mx.fit(NLL, TRUTH, few[5]), few[5])
    lower, upper = fits.minos
    assert lower.shape == upper.shape == (24, 3)
    np.testing.assert_allclose(lower[5, :2], one.lower[:2], rtol=1e-5)
    np.testing.assert_allclose(upper[5, :2], one.upper[:2], rtol=1e-5)
    sides = np.stack(fits.minos)
    assert np.all(np.isnan(sides[:, :, 2]))
    assert np.all(np.isnan(sides[:, 3]))
    assert np.all(np.isfinite(np.delete(sides, 3, axis=1)[:, :, :2]))
    with pytest.raises(ValueError, match="nu"):
        mx.fit_toys(NLL, TRUTH, few, minos="nu")


@pytest.mark.slow
def test_fixed_parameters(toys):
    params = TRUTH | {"sigma": mx.Parameter(1.2, lower=0.01, fixed=True)}
    fits = mx.fit_toys(NLL, params, toys, batch_size=128)
    assert fits.names == ("mu", "n")
    one = mx.fit(NLL, params, toys[11])
    np.testing.assert_allclose(fits.values[11], one.values, rtol=1e-7)
    np.testing.assert_allclose(fits.errors[11], one.errors, rtol=1e-4)


@pytest.mark.slow
def test_many_parameters():
    """Where a lane keeps its steps and no matrix."""
    rng = np.random.default_rng(2)
    slopes, base = jnp.asarray(rng.normal(0.0, 0.05, (60, 40))), 80.0

    def nll(p, data):
        log_mean = slopes @ p["x"]
        counts = base * jnp.exp(log_mean) - data["n"] * log_mean
        return jnp.sum(counts) + 0.5 * jnp.sum((p["x"] - data["a"]) ** 2)

    toys = {"n": jnp.asarray(rng.poisson(base, (40, 60)) * 1.0), "a": jnp.asarray(rng.normal(size=(40, 40)))}
    params = {"x": mx.Parameter(jnp.zeros(40))}
    for hesse in (True, False):
        fits = mx.fit_toys(nll, params, toys, hesse=hesse)
        assert bool(jnp.all(fits.valid))
        one = mx.fit(nll, params, jax.tree.map(lambda a: a[3], toys))
        assert np.max(np.abs(fits.values[3] - one.values) / one.errors) < 1e-6
        assert float(jnp.mean(fits.stats["num_gradients"])) < 7


@pytest.mark.slow
def test_a_wrong_covariance_changes_nothing(toys, fits):
    """Errors a thousand times too small or too large: more steps, the same minima."""
    for factor in (1e-6, 1e6):
        for hesse in (True, False):
            found = mx.fit_toys(NLL, TRUTH, toys[:40], covariance=factor * np.diag([0.01, 500.0, 0.002]), hesse=hesse)
            assert bool(jnp.all(found.valid))
            assert np.max(np.abs(found.values - fits.values[:40]) / fits.errors[:40]) < 1e-5


class TestMemory:
    @pytest.mark.slow
    def test_a_batch_that_is_too_large(self, toys, fits, monkeypatch):
        """It goes on in halves, and says so once."""
        inside = calls.fit_part
        sizes = []

        def small(shared, rows, *rest):
            sizes.append(rows[2].shape[0])
            if sizes[-1] > 64:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1234 bytes.")
            return inside(shared, rows, *rest)

        small.memory = lambda *_: None
        monkeypatch.setattr(calls, "fit_part", small)
        monkeypatch.setattr(memory, "_MOST_LANES", {"cpu": 16})
        with pytest.warns(UserWarning, match="out of memory with 256 toys at once: continuing with 128") as warned:
            found = mx.fit_toys(NLL, TRUTH, toys, batch_size=256)
        assert len([w for w in warned if "out of memory" in str(w.message)]) == 1
        np.testing.assert_allclose(found.values, fits.values, rtol=1e-9, atol=1e-10)
        assert min(sizes) == 64

    @pytest.mark.slow
    def test_smaller_pieces_while_a_batch_is_under_way(self, toys, fits, monkeypatch):
        """Another thread's shrinking loses no toy of a batch that has begun."""
        inside = calls.Calls._inputs

        def shrinking(self, first, n, piece):
            if n:
                self.piece = self.how.rows(16)
            return inside(self, first, n, piece)

        monkeypatch.setattr(memory, "_MOST_LANES", {"cpu": 16})
        monkeypatch.setattr(calls.Calls, "_inputs", shrinking)
        found = mx.fit_toys(NLL, TRUTH, toys, batch_size=128)
        assert found.values.shape == (N, 3)
        np.testing.assert_allclose(found.values, fits.values, rtol=1e-9, atol=1e-10)

    @pytest.mark.slow
    def test_measured(self, toys, fits, monkeypatch):
        """What the compiler says that a batch takes decides before anything runs."""
        monkeypatch.setattr(calls, "budget", lambda *_: 200_000)
        monkeypatch.setattr(memory, "_MOST_LANES", {"cpu": 16})
        pieces = []
        inside = calls.Calls.compile

        def compile_(self):
            inside(self)
            pieces.append(self.piece)

        monkeypatch.setattr(calls.Calls, "compile", compile_)
        found = mx.fit_toys(NLL, TRUTH, toys, batch_size=256)
        assert max(pieces) < 256
        np.testing.assert_allclose(found.values, fits.values, rtol=1e-9, atol=1e-10)

    def test_another_error_is_raised(self, toys, monkeypatch):
        def broken(*_):
            raise jax.errors.JaxRuntimeError("INTERNAL: something else")

        broken.memory = lambda *_: None
        monkeypatch.setattr(calls, "fit_part", broken)
        with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
            mx.fit_toys(NLL, TRUTH, toys)


@pytest.mark.slow
def test_traces_of_the_model(toys):
    """The likelihood's Python code runs a few times, whatever the number of batches, and not at all the second time."""
    calls = []

    def nll(p, counts):
        calls.append(1)
        return NLL(p, counts)

    mx.fit_toys(nll, TRUTH, toys, batch_size=64)
    first = len(calls)
    mx.fit_toys(nll, TRUTH, toys, batch_size=64)
    assert first <= 2
    assert len(calls) == first


@pytest.mark.slow
def test_threads_see_the_settings_of_a_with_statement(toys, fits):
    with jax.default_matmul_precision("highest"):
        found = mx.fit_toys(NLL, TRUTH, toys, batch_size=128)
    np.testing.assert_allclose(found.values, fits.values, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_progress(toys, capsys, monkeypatch):
    """Toys, failures, the time left; nothing where the output is a file."""
    poisoned = np.array(toys)
    poisoned[:5, 3] = np.nan
    mx.fit_toys(NLL, TRUTH, poisoned, batch_size=128, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    mx.fit_toys(NLL, TRUTH, poisoned, batch_size=128, progress=True)
    shown = capsys.readouterr().err
    assert "failed=5" in shown
    assert "300/300" in shown
    assert "toy/s" in shown


BAD = {
    "no axis": (lambda: mx.fit_toys(NLL, TRUTH, {"a": jnp.zeros(3), "b": 1.0}), ValueError, "one leading axis"),
    "different axes": (lambda: mx.fit_toys(NLL, TRUTH, (jnp.zeros(3), jnp.zeros(4))), ValueError, "one leading axis"),
    "batch size 0": (lambda: mx.fit_toys(NLL, TRUTH, jnp.zeros((3, 40)), batch_size=0), ValueError, "batch_size"),
    "one toy": (lambda: mx.fit_toys(NLL, TRUTH, jnp.zeros(40)), ValueError, "shape"),
    "no key": (lambda: mx.Toys(10, 1), TypeError, "jax.random.key"),
    "a number for a key": (lambda: mx.Toys(10, jnp.arange(3.0)), TypeError, "key of jax.random"),
    "many keys": (lambda: mx.Toys(10, jax.random.split(KEY, 3)), ValueError, "one key"),
    "no toys": (lambda: mx.Toys(0, KEY), ValueError, "at least 1"),
    "cannot be drawn": (lambda: mx.fit_toys(lambda p, d: p["mu"] ** 2, TRUTH, mx.Toys(3, KEY)), TypeError, "no sample"),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
def test_a_toy_that_does_not_determine_a_parameter():
    """No event at all: the slope is anything. As mx.fit says, so does fit_toys."""
    x = jnp.linspace(0.1, 3.9, 20)
    nll = mx.PoissonNLL(lambda p: p["n"] * jnp.exp(-p["slope"] * x))
    params = {"n": mx.Parameter(5.0, lower=0.0), "slope": mx.Parameter(0.5)}
    toys = np.array(mx.sample(nll, params, jax.random.key(0), 64))
    toys[5] = 0.0
    one = mx.fit(nll, params, jnp.zeros(20))
    many = mx.fit_toys(nll, params, toys)
    assert not bool(one.valid)
    assert not bool(many.valid[5])
    assert int(many.status[5]) == int(one.status)
    assert np.sum(~np.asarray(many.valid)) == 1


def test_not_inside_jit():
    with pytest.raises(TypeError, match=r"cannot be inside jax\.jit"):
        jax.jit(lambda toys: mx.fit_toys(NLL, TRUTH, toys).values)(jnp.ones((3, 5)))


def test_an_error_of_the_users_own_is_not_taken_for_no_asimov_data():
    def expected(params):
        raise TypeError("of the user's own")

    own = mx.Likelihood(lambda p, data: jnp.sum((data - p["mu"]) ** 2), expected_data=expected)
    with pytest.raises(TypeError, match="of the user's own"):
        mx.fit_toys(own, {"mu": mx.Parameter(0.0)}, jnp.ones((2, 3)))


def test_toys_whose_asimov_data_are_not_known():
    points = mx.Points(jnp.arange(4.0), jnp.arange(4.0), jnp.ones(4))
    toys = jax.tree.map(lambda a: jnp.stack([a, a]), points)
    line = mx.LeastSquares(lambda p, x: p["a"] * x)
    np.testing.assert_allclose(mx.fit_toys(line, {"a": mx.Parameter(0.0)}, toys).values, 1.0, rtol=1e-6)


def test_a_number_of_toys_without_a_key():
    with pytest.raises(TypeError, match=r"as in mx\.Toys\(300, jax\.random\.key\(0\)\); got none"):
        mx.Toys(300)
