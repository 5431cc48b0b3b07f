"""Pictures of toys: pulls, coverage, test statistics."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from pictures import check_mplhep, check_picture, labelled, new_axes, run_example

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
pytestmark = pytest.mark.usefixtures("close_figures")

NLL = mx.PoissonNLL(lambda p: p["mu"] * jnp.array([8.0, 3.0]) + p["b"] * jnp.array([20.0, 25.0]))
PARAMS = {"mu": mx.Parameter(0.5, lower=-3.0, upper=20.0), "b": mx.Parameter(1.0, lower=0.0)}
DATA = jnp.array([23.0, 26.0])


@pytest.fixture(scope="module")
def fits():
    params = {"mu": mx.Parameter(1.0, lower=-3.0, upper=20.0), "b": PARAMS["b"]}
    return mx.fit_toys(NLL, params, mx.Toys(600, jax.random.key(2))), params


@pytest.fixture(scope="module")
def pulls(fits):
    return mx.pull_study(*fits)


@pytest.fixture(scope="module")
def coverage(fits):
    found = mx.coverage_study(*fits)
    shift = jax.tree.map(lambda a: a + 0.01, (found.hesse.fraction, found.hesse.low, found.hesse.high))
    minos = eqx.tree_at(lambda c: (c.fraction, c.low, c.high), found.hesse, shift)  # as if they were asked for
    return dataclasses.replace(found, minos=minos)


@pytest.fixture(scope="module")
def by_toys():
    return mx.hypotest(NLL, PARAMS, DATA, "mu", 1.5, calculator=mx.Toys(3000, jax.random.key(0)))


@pytest.fixture(scope="module")
def asymptotic():
    return mx.hypotest(NLL, PARAMS, DATA, "mu", 1.5)


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.slow
def test_pulls(pulls):
    ax = new_axes()
    assert mx.plot.pulls(pulls, "mu", ax) is ax
    k = pulls.names.index("mu")
    found = pulls.pulls[:, k]
    x, n = labelled(ax)["Toys"].lines[0].get_data()
    width = x[1] - x[0]
    assert np.sum(n) == np.sum(np.isfinite(found))
    np.testing.assert_array_equal(n, np.histogram(found, np.append(x - width / 2, x[-1] + width / 2))[0])
    normal = labelled(ax)["Standard normal"]
    at = normal.get_xdata()
    want = np.exp(-0.5 * at**2) / math.sqrt(2 * math.pi) * pulls.count[k] * width
    np.testing.assert_allclose(normal.get_ydata(), want)
    said = texts(ax)[0].replace("\N{MINUS SIGN}", "-")
    assert f"Mean {pulls.mean[k]:.3f} ± {pulls.mean_error[k]:.3f}" in said
    assert f"Width {pulls.width[k]:.3f} ± {pulls.width_error[k]:.3f}" in said
    assert "Hesse errors" in said
    assert "MINOS errors" in texts(mx.plot.pulls(dataclasses.replace(pulls, kind="minos"), "mu"))[0]
    assert ax.get_xlabel() == "Pull of mu"


def test_one_wild_pull_does_not_squeeze_the_others(pulls):
    k = pulls.names.index("mu")
    wild = dataclasses.replace(pulls, pulls=np.concatenate([*[pulls.pulls] * 10, np.full((1, 2), 50.0)]))
    ax = mx.plot.pulls(wild, "mu")
    assert 4.0 <= ax.get_xlim()[1] < 6.0
    assert "1 further out" in texts(ax)[0]
    assert np.sum(labelled(ax)["Toys"].lines[0].get_ydata()) == 10 * np.sum(np.isfinite(pulls.pulls[:, k]))


def test_toys_that_failed_are_left_out(pulls):
    some = dataclasses.replace(pulls, pulls=np.where(np.arange(600)[:, None] < 10, np.nan, pulls.pulls))
    ax = mx.plot.pulls(some, "b")
    inside = np.abs(some.pulls[:, pulls.names.index("b")]) <= ax.get_xlim()[1]
    assert np.sum(labelled(ax)["Toys"].lines[0].get_ydata()) == np.sum(inside) >= 585
    none = dataclasses.replace(pulls, pulls=np.full_like(pulls.pulls, np.nan))
    assert np.sum(labelled(mx.plot.pulls(none, "b"))["Toys"].lines[0].get_ydata()) == 0


def test_coverage(coverage):
    ax = new_axes()
    assert mx.plot.coverage(coverage, ax) is ax
    drawn = labelled(ax)
    np.testing.assert_allclose(drawn["Hesse"].lines[0].get_xdata(), 100 * coverage.hesse.fraction)
    np.testing.assert_allclose(drawn["MINOS"].lines[0].get_xdata(), 100 * coverage.minos.fraction)
    (bars,) = drawn["MINOS"].lines[2]
    ends = np.array([segment[:, 0] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, 100 * np.stack([coverage.minos.low, coverage.minos.high], -1))
    np.testing.assert_allclose(drawn["68.27 %"].get_xdata(), 100 * coverage.cl)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(coverage.names)
    alone = dataclasses.replace(coverage, minos=None)
    assert "MINOS" not in labelled(mx.plot.coverage(alone))


def test_toy_distributions(by_toys, asymptotic):
    ax = new_axes()
    assert mx.plot.toy_distributions(by_toys, ax, asymptotic=asymptotic) is ax
    drawn = labelled(ax)
    names = [f"{kind}, mu = {value}" for kind in ("Toys", "Asymptotic") for value in ("1.5", "0")]
    assert set(drawn) == {*names, f"Observed: {float(by_toys.statistic):.3g}"}
    for value, toys in (("1.5", by_toys.toys.tested), ("0", by_toys.toys.alternative)):
        curve, edges, _ = drawn[f"Asymptotic, mu = {value}"].get_data()
        x, share = drawn[f"Toys, mu = {value}"].lines[0].get_data()
        n = np.histogram(toys.values[0], edges)[0]
        np.testing.assert_allclose(share, n[n > 0] / 3000)
        np.testing.assert_allclose(x, (0.5 * (edges[1:] + edges[:-1]))[n > 0])
        # which agree: Poisson counts of 20 are nearly normal
        high = curve * 3000 > 20
        assert np.all(np.abs(n[high] - 3000 * curve[high]) < 6 * np.sqrt(3000 * curve[high]) + 0.1 * 3000 * curve[high])
    np.testing.assert_allclose(drawn[f"Observed: {float(by_toys.statistic):.3g}"].get_xdata(), by_toys.statistic)


def test_the_asymptotic_curves_are_those_of_the_p_values(by_toys, asymptotic):
    """Where an edge is the observed statistic, the bins beyond it add up to the p-value."""
    ax = mx.plot.toy_distributions(by_toys, asymptotic=asymptotic, bins=400)
    for value, p in (("1.5", asymptotic.p_sb), ("0", asymptotic.p_b)):
        curve, edges, _ = labelled(ax)[f"Asymptotic, mu = {value}"].get_data()
        below = np.interp(float(asymptotic.statistic), edges, np.concatenate([[0.0], np.cumsum(curve)]))
        np.testing.assert_allclose(1 - below, p, atol=2e-3)


def test_without_asimov_data_the_median_of_the_toys(by_toys, asymptotic):
    curves = [
        labelled(mx.plot.toy_distributions(by_toys, asymptotic=a))["Asymptotic, mu = 0"].get_data().values
        for a in (asymptotic, None)
    ]
    np.testing.assert_allclose(*curves, atol=0.1)
    assert np.all(curves[1] >= 0)


@pytest.mark.parametrize("statistic", [mx.QMu(), mx.TMu(), mx.TMuTilde()], ids=lambda s: type(s).__name__)
def test_other_statistics(by_toys, asymptotic, statistic):
    """The picture is that of the statistic that is said; what is expected of a two-sided one nobody says."""
    unknown = eqx.tree_at(lambda t: t.expected_p_sb, asymptotic, jnp.full(5, jnp.nan))
    ax = mx.plot.toy_distributions(by_toys, statistic=statistic, asymptotic=unknown)
    for value in ("1.5", "0"):
        curve = labelled(ax)[f"Asymptotic, mu = {value}"].get_data().values
        assert np.all(curve > 0)
        assert 0.9 < np.sum(curve) <= 1


def test_the_median_of_the_toys_says_how_far_the_alternative_is(by_toys):
    """Toys of t_mu, whose square root is the size of a normal number: q_A is the square of its mean."""
    drawn = (1.7 + jax.random.normal(jax.random.key(3), (1, 3000))) ** 2
    toys = eqx.tree_at(lambda t: t.toys.alternative.values, by_toys, drawn)
    ax = mx.plot.toy_distributions(toys, statistic=mx.TMu(), bins=20)
    curve, edges, _ = labelled(ax)["Asymptotic, mu = 0"].get_data()
    np.testing.assert_allclose(curve, np.histogram(drawn, edges)[0] / 3000, atol=0.02)


def test_several_parameters_of_interest_have_toys_alone(by_toys):
    two = lambda a: jnp.array([a[0], 1.0])  # noqa: E731
    where = lambda t: (t.fits.tested, t.alternative)  # noqa: E731
    both = eqx.tree_at(where, by_toys, (two(by_toys.fits.tested), two(by_toys.alternative)))
    assert list(labelled(mx.plot.toy_distributions(both, statistic=mx.TMu())))[1:] == [
        "Toys, mu = 1.5, 1",
        "Toys, mu = 0, 1",
    ]


@pytest.mark.slow
def test_discovery():
    test = mx.discovery(NLL, PARAMS, DATA, "mu", calculator=mx.Toys(500, jax.random.key(1), importance=True))
    ax = mx.plot.toy_distributions(test, asymptotic=eqx.tree_at(lambda t: t.toys, test, None))
    assert ax.get_xlabel() == "Test statistic $q_0$"
    assert "Asymptotic, mu = 0" in labelled(ax)
    first = labelled(ax)["Asymptotic, mu = 0"].get_data().values[0]
    assert first > 0.5  # half of them are 0


def test_toys_of_tests_that_failed(by_toys):
    toys = eqx.tree_at(lambda t: t.toys.tested.values, by_toys, by_toys.toys.tested.values.at[0, :100].set(jnp.nan))
    share = labelled(mx.plot.toy_distributions(toys))["Toys, mu = 1.5"].lines[0].get_ydata()
    np.testing.assert_allclose(np.sum(share), 1.0, atol=0.01)
    nan = jnp.full((1, 3000), jnp.nan)
    where = lambda t: (t.toys.tested.values, t.toys.alternative.values)  # noqa: E731
    with pytest.raises(ValueError, match="no toy is valid"):
        mx.plot.toy_distributions(eqx.tree_at(where, by_toys, (nan, nan)))


BAD = {
    "pulls: something else": (
        lambda f: mx.plot.pulls(f["coverage"]),
        TypeError,
        "takes a PullStudy, got CoverageStudy",
    ),
    "pulls: none": (lambda f: mx.plot.pulls(f["pulls"]), ValueError, "one parameter at a time: b, mu"),
    "pulls: unknown": (lambda f: mx.plot.pulls(f["pulls"], "mv"), ValueError, "mu"),
    "coverage": (lambda f: mx.plot.coverage(f["pulls"]), TypeError, "takes a CoverageStudy, got PullStudy"),
    "toys: something else": (lambda f: mx.plot.toy_distributions(f["pulls"]), TypeError, "takes a HypoTest or Disc"),
    "toys: none": (lambda f: mx.plot.toy_distributions(f["asymptotic"]), ValueError, "this test has no toys"),
    "toys: twice": (
        lambda f: mx.plot.toy_distributions(f["by_toys"], asymptotic=f["by_toys"]),
        ValueError,
        "the same test without toys",
    ),
    "toys: statistic": (
        lambda f: mx.plot.toy_distributions(f["by_toys"], statistic="q0"),
        TypeError,
        r"mx\.QTilde\(\), got str",
    ),
    "toys: many": (
        lambda f: mx.plot.toy_distributions(jax.tree.map(lambda a: jnp.stack([a, a]), f["by_toys"])),
        ValueError,
        r"one test, got shape \(2,\)",
    ),
}


@pytest.fixture(scope="module")
def found(pulls, coverage, by_toys, asymptotic):
    return {"pulls": pulls, "coverage": coverage, "by_toys": by_toys, "asymptotic": asymptotic}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(found, case):
    draw, error, message = BAD[case]
    with pytest.raises(error, match=message):
        draw(found)


@pytest.mark.slow
def test_examples(fits, by_toys, asymptotic, monkeypatch):
    made, params = fits
    monkeypatch.setattr(mx, "fit_toys", lambda *_, **__: made)
    monkeypatch.setattr(mx, "hypotest", lambda *_, **options: by_toys if options else asymptotic)
    names = {"nll": NLL, "params": params, "data": DATA, "mx": mx, "jax": jax, "result": mx.fit(NLL, params, DATA)}
    for name in ("pulls", "coverage", "toy_distributions"):
        run_example(getattr(mx.plot, name), names)


PICTURES = {
    "pulls": lambda f: mx.plot.pulls(f["pulls"], "mu"),
    "coverage": lambda f: mx.plot.coverage(f["coverage"]),
    "toy_distributions": lambda f: mx.plot.toy_distributions(f["by_toys"], asymptotic=f["asymptotic"]),
}


@pytest.mark.grid
@pytest.mark.parametrize("name", PICTURES)
def test_picture(found, name, tmp_path):
    check_picture(name, lambda: PICTURES[name](found), tmp_path)


@pytest.mark.parametrize("name", PICTURES)
def test_mplhep(found, name):
    check_mplhep(name, lambda: PICTURES[name](found))
