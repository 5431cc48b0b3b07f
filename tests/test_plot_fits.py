"""Pictures of profiles, contours, correlations and impacts."""

import itertools

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
from matplotlib.figure import Figure  # noqa: E402

DATA = jnp.array([8.0, 14.0, 9.0, 30.0])
PREFIT = {"alpha": (0.0, 1.0), "sigma": (0.0, 1.0)}
PARAMS = {
    "mu": mx.Parameter(1.0, lower=-5.0, upper=20.0),
    "alpha": mx.Parameter(0.0),
    "sigma": mx.Parameter(0.0),
    "rate": mx.Parameter(1.0, lower=0.0),
}
NAMES = ("alpha", "mu", "sigma")


def nll(p, d):
    tilt = jnp.array([-1.0, 0.0, 1.0])
    background = 7.0 * p["rate"] * jnp.exp(0.15 * p["alpha"] + 0.25 * p["sigma"] * tilt)
    signal = p["mu"] * jnp.array([1.0, 6.0, 2.0]) * jnp.exp(0.1 * p["alpha"])
    expected = jnp.concatenate([signal + background, 30.0 * p["rate"][None]])
    return mx.PoissonNLL(lambda _: expected)(p, d) + 0.5 * (p["alpha"] ** 2 + p["sigma"] ** 2)


@pytest.fixture(scope="module")
def result():
    return mx.fit(nll, PARAMS, DATA)


@pytest.fixture(scope="module")
def minos(result):
    return mx.minos(nll, result, DATA, ["mu", "alpha"])


@pytest.fixture(scope="module")
def profiles(result):
    return {name: mx.profile(nll, result, DATA, name, 25, sigmas=2.3) for name in NAMES}


@pytest.fixture(scope="module")
def grid(result):
    return mx.scan(nll, result, DATA, ("mu", "sigma"), (25, 24), sigmas=3.0)


@pytest.fixture(scope="module")
def contours(result):
    return {pair: mx.contour(nll, result, DATA, pair, cl=[0.68, 0.95]) for pair in itertools.combinations(NAMES, 2)}


@pytest.fixture(scope="module")
def impacts(result):
    return mx.impacts(nll, result, DATA, "mu", prefit=PREFIT)


def longest(ax):
    return max(ax.get_lines(), key=lambda line: len(line.get_xdata()))


def first(results):
    """As vmapped fits are."""
    return jax.tree.map(lambda a: jnp.stack([a, a]), results)


def test_profile(profiles):
    along = profiles["mu"]
    ax = new_axes()
    assert mx.plot.profile(along, ax) is ax
    np.testing.assert_allclose(longest(ax).get_xdata(), along.grid[0])
    np.testing.assert_allclose(longest(ax).get_ydata(), along.rise)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mu", r"$-2\,\Delta\,\ln L$")
    assert [text.get_text() for text in ax.texts] == [r"$1\sigma$", r"$2\sigma$", r"$3\sigma$"][: len(ax.texts)]
    lines = {float(line.get_ydata()[0]) for line in ax.get_lines() if len(line.get_xdata()) == 2}
    assert lines >= {1.0, 4.0}
    assert max(lines) < ax.get_ylim()[1]


def test_crossings_of_minos(profiles, minos):
    ax = mx.plot.profile(profiles["mu"], minos=minos)
    drawn = longest(ax)
    (label, crossings), *_ = labelled(ax).items()
    value = minos.result["mu"].value
    want = value + np.array([minos["mu"].lower, minos["mu"].upper])
    np.testing.assert_allclose(crossings.get_xdata(), want)
    np.testing.assert_allclose(np.interp(want, drawn.get_xdata(), drawn.get_ydata()), crossings.get_ydata(), atol=0.05)
    assert label.startswith("MINOS")
    one_side = eqx.tree_at(lambda m: m.upper, minos, jnp.full(2, jnp.nan))
    (crossing,) = labelled(mx.plot.profile(profiles["mu"], minos=one_side)).values()
    np.testing.assert_allclose(crossing.get_xdata(), want[:1])


def test_what_failed_is_a_gap(profiles):
    along = profiles["mu"]
    some = eqx.tree_at(lambda p: p.rise, along, along.rise.at[3].set(jnp.nan))
    assert np.isnan(longest(mx.plot.profile(some)).get_ydata()[3])
    none = eqx.tree_at(lambda p: p.rise, along, along.rise * jnp.nan)
    assert np.all(np.isnan(longest(mx.plot.profile(none)).get_ydata()))


def test_a_grid_of_two_parameters(grid):
    ax = mx.plot.profile(grid)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mu", "sigma")
    filled, *lines = ax.collections[:3]
    np.testing.assert_allclose([line.levels[0] for line in lines], [2.279, 5.991], atol=1e-3)
    box = filled.get_datalim(ax.transData)
    np.testing.assert_allclose([box.width, box.height], [np.ptp(g) for g in grid.grid])
    holes = eqx.tree_at(lambda p: p.rise, grid, grid.rise.at[:, 5].set(jnp.nan))
    assert mx.plot.profile(holes, new_axes()).collections


def test_contour(contours, result):
    found = contours["mu", "sigma"]
    ax = new_axes()
    assert mx.plot.contour(found, ax) is ax
    drawn = labelled(ax)
    assert list(drawn) == ["68 %", "95 %", "Minimum"]
    for k, label in enumerate(("68 %", "95 %")):
        np.testing.assert_allclose(drawn[label].get_xdata(), found.x[k])
        np.testing.assert_allclose(drawn[label].get_ydata(), found.y[k])
    np.testing.assert_allclose(drawn["Minimum"].get_xdata(), [result["mu"].value])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mu", "sigma")
    assert len(ax.patches) == 2


def test_a_contour_with_a_point_that_failed(contours):
    found = contours["mu", "sigma"]
    some = eqx.tree_at(lambda c: c.values, found, found.values.at[1, 7].set(jnp.nan))
    ax = mx.plot.contour(some)
    assert np.isnan(labelled(ax)["95 %"].get_xdata()[7])
    assert len(ax.patches) == 1
    single = jax.tree.map(lambda a: a, found)
    single = eqx.tree_at(lambda c: (c.values, c.rise), single, (found.values[0], found.rise[0]))
    assert list(labelled(mx.plot.contour(single))) == ["68 %", "Minimum"]


def test_correlation(result):
    ax = new_axes()
    assert mx.plot.correlation(result, ax) is ax
    np.testing.assert_allclose(ax.images[0].get_array(), result.covariance.correlation)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(result.names)
    assert len(ax.texts) == 16
    assert ax.texts[1].get_text() == f"{result.covariance.correlation[0, 1]:.2f}".replace("-", "\N{MINUS SIGN}")
    assert not mx.plot.correlation(result.covariance, numbers=False).texts
    many = covariance(64)
    assert not mx.plot.correlation(many).texts


def covariance(n):
    off = np.subtract.outer(np.arange(n), np.arange(n))
    matrix = 0.9 ** np.abs(off) * np.cos(off / 3)
    return mx.Covariance(jnp.asarray(matrix), jnp.asarray(True), tuple(f"gamma_stat_{i}" for i in range(n)))


def bars(ax):
    """By label the widths of the bars, from the top."""
    return {c.get_label(): [bar.get_width() for bar in c] for c in ax.containers if hasattr(c, "patches")}


def test_impacts(impacts):
    left, right = mx.plot.impacts(impacts)
    order = np.argsort(-np.maximum(np.abs(impacts.postfit_up), np.abs(impacts.postfit_down)))
    assert [label.get_text() for label in left.get_yticklabels()] == [impacts.names[i] for i in order]
    drawn = bars(right)
    np.testing.assert_allclose(drawn[r"$+1\sigma$"], impacts.postfit_up[order])
    np.testing.assert_allclose(drawn[r"$-1\sigma$"], impacts.postfit_down[order])
    known = [i for i in order if impacts.names[i] != "rate"]
    np.testing.assert_allclose(drawn[r"$+1\sigma$ before the fit"], impacts.prefit_up[np.array(known)])
    (points,) = left.containers
    np.testing.assert_allclose(points.lines[0].get_xdata(), impacts.pulls[order])
    assert right.get_xlabel() == "Impact on mu"
    assert left.get_ylim() == right.get_ylim()
    ax = new_axes()
    assert mx.plot.impacts(impacts, ax, top=2) is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == [impacts.names[i] for i in order[:2]]


def test_impacts_that_failed(impacts):
    some = eqx.tree_at(lambda i: i.postfit_up, impacts, impacts.postfit_up.at[0].set(jnp.nan))
    none = eqx.tree_at(lambda i: (i.postfit_up, i.postfit_down), some, (jnp.full(3, jnp.nan),) * 2)
    for found in (some, none):
        widths = bars(mx.plot.impacts(found)[1])[r"$+1\sigma$"]
        assert np.sum(np.isnan(widths)) == np.sum(np.isnan(found.postfit_up))


def test_corner(profiles, contours, minos):
    each = mx.plot.corner([*profiles.values(), *contours.values(), minos])
    assert each.shape == (3, 3)
    assert [[ax.get_visible() for ax in row] for row in each] == [[True, False, False], [True, True, False], [True] * 3]
    for k, name in enumerate(NAMES):
        np.testing.assert_allclose(longest(each[k, k]).get_ydata(), profiles[name].rise)
    found = contours["alpha", "sigma"]
    np.testing.assert_allclose(labelled(each[2, 0])["95 %"].get_xdata(), found.x[1])
    assert each[1, 0].get_xlim() == each[0, 0].get_xlim() == each[2, 0].get_xlim()
    assert each[2, 1].get_xlim() == each[1, 0].get_ylim()
    assert [ax.get_xlabel() for ax in each[-1]] == list(NAMES)
    given = Figure().subplots(3, 3)
    assert mx.plot.corner([*contours.values()], given) is given
    assert not given[0, 0].get_visible()


def test_corner_turns_contours(profiles, contours):
    found = contours["alpha", "mu"]
    each = mx.plot.corner([profiles["mu"], profiles["alpha"], found])
    np.testing.assert_allclose(labelled(each[1, 0])["68 %"].get_xdata(), found.y[0])


BAD = {
    "profile: something else": (lambda f: mx.plot.profile(f["result"]), TypeError, "takes a Profile, got FitResult"),
    "profile: many": (lambda f: mx.plot.profile(first(f["profiles"]["mu"])), ValueError, "draws one result, got many"),
    "profile: minos": (lambda f: mx.plot.profile(f["profiles"]["sigma"], minos=f["minos"]), ValueError, "sigma"),
    "profile: minos, two": (lambda f: mx.plot.profile(f["grid"], minos=f["minos"]), ValueError, "one parameter"),
    "contour: something else": (lambda f: mx.plot.contour(f["grid"]), TypeError, "takes a Contour, got Profile"),
    "contour: many": (lambda f: mx.plot.contour(first(f["contours"]["mu", "sigma"])), ValueError, "got many"),
    "correlation: something else": (lambda f: mx.plot.correlation(f["minos"]), TypeError, "FitResult or Covariance"),
    "correlation: many": (lambda f: mx.plot.correlation(first(f["result"])), ValueError, "got many along 1 axes"),
    "correlation: none": (
        lambda f: mx.plot.correlation(eqx.tree_at(lambda r: r.covariance, f["result"], None)),
        ValueError,
        "hesse=True",
    ),
    "impacts: something else": (lambda f: mx.plot.impacts(f["result"]), TypeError, "takes a Impacts, got FitResult"),
    "impacts: many": (lambda f: mx.plot.impacts(first(f["impacts"])), ValueError, "got many"),
    "impacts: top": (lambda f: mx.plot.impacts(f["impacts"], top=0), ValueError, "at least 1, got 0"),
    "corner: no sequence": (lambda f: mx.plot.corner(f["grid"]), TypeError, "takes a sequence of results, got Profile"),
    "corner: nothing": (lambda f: mx.plot.corner([f["minos"]]), ValueError, "nothing to draw"),
    "corner: something else": (lambda f: mx.plot.corner([f["result"]]), TypeError, "corner takes a Profile or Contour"),
    "corner: two": (lambda f: mx.plot.corner([f["grid"]]), ValueError, "of one parameter, got mu, sigma"),
    "corner: twice": (lambda f: mx.plot.corner([f["profiles"]["mu"]] * 2), ValueError, "two profiles of mu"),
    "corner: axes": (lambda f: mx.plot.corner([f["profiles"]["mu"]], [[1, 2]]), ValueError, r"shape \(1, 1\), got"),
}


@pytest.fixture(scope="module")
def found(result, minos, profiles, grid, contours, impacts):
    return {
        "result": result,
        "minos": minos,
        "profiles": profiles,
        "grid": grid,
        "contours": contours,
        "impacts": impacts,
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input(found, case):
    draw, error, message = BAD[case]
    with pytest.raises(error, match=message):
        draw(found)


def many_impacts():
    """As a published analysis has them."""
    rng = np.random.default_rng(8)
    n = 30
    size = 0.3 * np.exp(-0.12 * np.arange(n)) * rng.choice([-1, 1], n)
    down, up = -size * rng.uniform(0.7, 1.1, n), size
    wide = rng.uniform(1.0, 1.6, n)
    pulls, constraints = rng.normal(0, 0.4, n), rng.uniform(0.4, 1.05, n)
    pulls[5] = constraints[5] = wide[5] = np.nan
    names = tuple(f"alpha_{word}_{i}" for i, word in enumerate(itertools.islice(itertools.cycle(["JES", "btag"]), n)))
    every = (jnp.asarray(a) for a in (down, up, down * wide, up * wide, up, pulls, constraints))
    return mx.Impacts(*every, jnp.zeros((n, 4), int), jnp.isfinite(jnp.asarray(pulls)), names, "mu_ttH")


@pytest.mark.slow
def test_examples(result):
    names = {"nll": nll, "result": result, "data": DATA, "mx": mx, "itertools": itertools}
    for name in ("profile", "contour", "correlation", "impacts", "corner"):
        run_example(getattr(mx.plot, name), names)


PICTURES = {
    "profile": lambda f: mx.plot.profile(f["profiles"]["mu"], minos=f["minos"]),
    "profile_two": lambda f: mx.plot.profile(f["grid"]),
    "contour": lambda f: mx.plot.contour(f["contours"]["mu", "sigma"]),
    "correlation": lambda f: mx.plot.correlation(f["result"]),
    "correlation_many": lambda _: mx.plot.correlation(covariance(64)),
    "impacts": lambda f: mx.plot.impacts(f["impacts"]),
    "impacts_many": lambda _: mx.plot.impacts(many_impacts()),
    "corner": lambda f: mx.plot.corner([*f["profiles"].values(), *f["contours"].values(), f["minos"]]),
}


@pytest.mark.grid
@pytest.mark.parametrize("name", PICTURES)
def test_picture(found, name, tmp_path):
    dpi = {"correlation_many": 30, "corner": 42, "impacts_many": 50}.get(name, 60)  # of small files
    check_picture(name, lambda: PICTURES[name](found), tmp_path, dpi=dpi)


@pytest.mark.grid
@pytest.mark.parametrize("name", PICTURES)
def test_mplhep(found, name):
    check_mplhep(name, lambda: PICTURES[name](found))
