"""Pictures of data and model."""

import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from pictures import check_mplhep, check_picture, labelled, run_example

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
pytestmark = pytest.mark.usefixtures("close_figures")
from matplotlib.figure import Figure  # noqa: E402

EDGES = np.linspace(0.0, 10.0, 21)
RNG = np.random.default_rng(4)
EVENTS = np.concatenate([RNG.normal(5.0, 0.6, 300), RNG.uniform(0.0, 10.0, 700)])
COUNTS = np.histogram(EVENTS, EDGES)[0]
MASK = np.arange(20) != 3

dist = mx.distributions


def mixture(p):
    peak = dist.TruncatedNormal(p["mass"], 0.6, 0.0, 10.0)
    return dist.Mixture([peak, dist.Uniform(0.0, 10.0)], yields=[p["signal"], p["background"]])


def expected(p):
    peak = jnp.diff(dist.Normal(p["mass"], 0.6).cdf(EDGES))
    return p["signal"] * peak + p["background"] / 20


YIELDS = {"signal": mx.Parameter(300.0, lower=0.0), "background": mx.Parameter(700.0, lower=0.0)}
TEMPLATES = {
    "signal": np.histogram(RNG.normal(5.0, 0.6, 5000), EDGES)[0],
    "background": np.histogram(RNG.uniform(0.0, 10.0, 5000), EDGES)[0],
}
X = np.linspace(0.0, 4.0, 12)
WORKSPACE = {
    "version": "1.0.0",
    "channels": [
        {
            "name": name,
            "samples": [
                {
                    "name": "signal",
                    "data": [2.0, 9.0, 5.0],
                    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                },
                {"name": "top", "data": [12.0, 8.0, 4.0], "modifiers": []},
                {
                    "name": "fakes",
                    "data": [20.0, 12.0, 9.0],
                    "modifiers": [{"name": "rate", "type": "normsys", "data": {"lo": 0.9, "hi": 1.1}}],
                },
            ],
        }
        for name in ("SR", "CR")
    ],
    "observations": [{"name": "SR", "data": [36.0, 31.0, 16.0]}, {"name": "CR", "data": [33.0, 29.0, 19.0]}],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
}
LINE = {"a": mx.Parameter(0.0), "b": mx.Parameter(1.0)}
CASES = {
    "counts": lambda: (mx.PoissonNLL(expected, mask=MASK), YIELDS | {"mass": mx.Parameter(5.1)}, COUNTS),
    "template": lambda: (mx.TemplateNLL(TEMPLATES), YIELDS, COUNTS),
    "events": lambda: (
        mx.ExtendedUnbinnedNLL(distribution=mixture),
        YIELDS | {"mass": mx.Parameter(5.1)},
        mx.Events(EVENTS, mask=EVENTS < 9.99),
    ),
    "points": lambda: (
        mx.LeastSquares(lambda p, x: p["a"] + p["b"] * x**2),
        LINE,
        mx.Points(X, 1 + 0.5 * X**2 + 0.4 * RNG.normal(size=12), yerr=0.4, xerr=0.1, mask=X > 0.5),
    ),
    "workspace": lambda: mx.io.from_pyhf(WORKSPACE),
}


@pytest.fixture(scope="module")
def fits():
    made = {name: case() for name, case in CASES.items()}
    return {name: (nll, mx.fit(nll, params, data), data) for name, (nll, params, data) in made.items()}


def points(ax):
    """x, y and the ends of the error bars of the data."""
    drawn = labelled(ax)["Data"]
    line, _, bars = drawn.lines
    return line.get_xdata(), line.get_ydata(), bars[-1].get_segments()


def test_counts(fits):
    nll, result, counts = fits["counts"]
    main, below = mx.plot.data_and_model(nll, result, counts, edges=EDGES, xlabel="Mass [GeV]")
    x, y, bars = points(main)
    np.testing.assert_allclose(x, 0.5 * (EDGES[1:] + EDGES[:-1]))
    np.testing.assert_array_equal(y, np.where(MASK, counts, np.nan))
    np.testing.assert_allclose(bars[0][:, 1], counts[0] + np.array([-1, 1]) * np.sqrt(counts[0]))
    values, edges, _ = labelled(main)["Model"].get_data()
    np.testing.assert_allclose(values, nll.prediction(result.params))
    np.testing.assert_allclose(edges, EDGES)
    np.testing.assert_allclose(below.get_lines()[-1].get_ydata(), nll.pulls(result.params, counts))
    assert below.get_xlabel() == "Mass [GeV]"
    assert (main.get_ylabel(), below.get_ylabel()) == ("Events / 0.5 GeV", "Pull")


def test_bins_without_edges_are_numbered(fits):
    _, below = mx.plot.data_and_model(*fits["counts"])
    assert below.get_xlabel() == "Bin"
    np.testing.assert_array_equal(below.get_lines()[-1].get_xdata(), np.arange(20))


def test_samples_are_stacked(fits):
    nll, result, counts = fits["template"]
    main, _ = mx.plot.data_and_model(nll, result, counts, edges=EDGES)
    drawn = labelled(main)
    first, second = (drawn[name].get_data() for name in ("background", "signal"))  # the largest at the bottom
    share = TEMPLATES["background"] / TEMPLATES["background"].sum()
    np.testing.assert_allclose(first.values, result["background"].value * share)
    np.testing.assert_allclose(second.baseline, first.values)
    np.testing.assert_allclose(second.values, nll.prediction(result.params))
    assert [text.get_text() for text in main.get_legend().get_texts()] == ["Data", "Model", "signal", "background"]


def test_weighted_counts(fits):
    nll, result, counts = fits["template"]
    _, _, bars = points(mx.plot.data_and_model(nll, result, mx.Counts(counts, 4.0 * counts))[0])
    np.testing.assert_allclose(bars[0][:, 1], counts[0] + np.array([-2, 2]) * np.sqrt(counts[0]))


@pytest.mark.grid
@pytest.mark.parametrize("channel", ["SR", "CR"])
def test_channels(fits, channel):
    nll, result, data = fits["workspace"]
    main, below = mx.plot.data_and_model(nll, result, data, part=channel)
    np.testing.assert_array_equal(points(main)[1], data["main"][channel])
    for name, want in nll.expected(result.params)[channel].items():
        top, _, base = labelled(main)[name].get_data()
        np.testing.assert_allclose(top - base, want)
    np.testing.assert_allclose(below.get_lines()[-1].get_ydata(), nll.pulls(result.params, data)["main"][channel])


def test_points(fits):
    nll, result, data = fits["points"]
    main, below = mx.plot.data_and_model(nll, result, data)
    used = np.asarray(data.mask)
    x, y, _ = points(main)
    np.testing.assert_array_equal(x[used], X[used])
    np.testing.assert_allclose(y[used], data.y[used])
    assert np.all(np.isnan(y[~used]))
    curve = labelled(main)["Model"]
    at = curve.get_xdata()
    np.testing.assert_allclose(curve.get_ydata(), result["a"].value + result["b"].value * at**2)
    np.testing.assert_allclose(below.get_lines()[-1].get_ydata(), nll.pulls(result.params, data))


def test_events(fits):
    nll, result, data = fits["events"]
    main, below = mx.plot.data_and_model(nll, result, data, edges=EDGES)
    n = np.histogram(EVENTS[EVENTS < 9.99], EDGES)[0]
    np.testing.assert_array_equal(points(main)[1], n)
    curve = labelled(main)["Model"]
    np.testing.assert_allclose(np.trapezoid(curve.get_ydata(), curve.get_xdata()) / 0.5, data.total, rtol=1e-3)
    want = expected({name: result[name].value for name in result.names})
    np.testing.assert_allclose(below.get_lines()[-1].get_ydata(), (n - want) / np.sqrt(want), atol=1e-4)


@pytest.mark.slow
def test_unequal_bins_of_events_have_steps(fits):
    nll, result, data = fits["events"]
    edges = np.array([0.0, 4.0, 4.5, 5.0, 5.5, 6.0, 10.0])
    main, _ = mx.plot.data_and_model(nll, result, data, edges=edges)
    np.testing.assert_allclose(labelled(main)["Model"].get_data().edges, edges)
    shape = mx.UnbinnedNLL(lambda p, x: dist.Uniform(0.0, 10.0).log_prob(x) + 0.0 * p["mass"])
    main, _ = mx.plot.data_and_model(shape, result, mx.Events(EVENTS, np.full(EVENTS.size, 2.0)), edges=edges)
    np.testing.assert_allclose(labelled(main)["Model"].get_data().values, np.diff(edges) / 10 * 2 * EVENTS.size)


def test_parts_of_a_joint(fits):
    nll, result, counts = fits["template"]
    joint = mx.Joint({"counts": nll, "width": mx.NormalConstraint("signal", 9.0)})
    main, _ = mx.plot.data_and_model(joint, result, {"counts": counts, "width": 300.0}, part="counts")
    np.testing.assert_array_equal(points(main)[1], counts)
    with pytest.raises(TypeError, match="not NormalConstraint"):
        mx.plot.data_and_model(joint, result, {"counts": counts, "width": 300.0}, part="width")
    with pytest.raises(ValueError, match="one part is drawn at a time: part= one of 'counts', 'width'"):
        mx.plot.data_and_model(joint, result, {"counts": counts, "width": 300.0})


def test_the_axes_given_are_returned(fits):
    ax = Figure().subplots()
    assert mx.plot.data_and_model(*fits["counts"], ax, xlabel="x") is ax
    assert ax.get_xlabel() == "x"
    pair = Figure().subplots(2)
    assert mx.plot.data_and_model(*fits["counts"], pair) is pair
    assert pair[1].get_ylabel() == "Pull"


BAD = {
    "no fit": (lambda n, r, d: (n, 1.0, d), {}, TypeError, "takes a FitResult, got float"),
    "edges": (lambda n, r, d: (n, r, d), {"edges": [0.0, 1.0]}, ValueError, "edges must be 21 increasing numbers"),
    "a part": (lambda n, r, d: (n, r, d), {"part": "SR"}, ValueError, "PoissonNLL has no parts"),
    "a function": (lambda n, r, d: (lambda p, d: 0.0, r, d), {}, TypeError, "not function"),
    "axes": (lambda n, r, d: (n, r, d, [1, 2, 3]), {}, ValueError, "one or a pair of axes, got 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(fits, case):
    arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        mx.plot.data_and_model(*arguments(*fits["counts"]), **options)


def test_bad_channel(fits):
    nll, result, data = fits["workspace"]
    with pytest.raises(ValueError, match="one channel is drawn at a time: part= one of 'SR', 'CR'"):
        mx.plot.data_and_model(nll, result, data)
    with pytest.raises(ValueError, match="'CR'"):
        mx.plot.data_and_model(nll, result, data, part="CRR")


@pytest.mark.slow
def test_example(fits):
    names = dict(zip(("nll", "result", "counts"), fits["counts"], strict=True))
    names |= dict(zip(("workspace", "fitted", "data"), fits["workspace"], strict=True))
    run_example(mx.plot.data_and_model, names | {"edges": EDGES, "mx": mx})


PICTURES = {
    "counts": {"edges": EDGES, "xlabel": "Mass [GeV]"},
    "template": {"edges": EDGES, "xlabel": "Mass [GeV]"},
    "events": {"xlabel": "Mass [GeV]"},
    "points": {"xlabel": "Time [s]"},
    "workspace": {"part": "SR"},
}


@pytest.mark.grid
@pytest.mark.parametrize("name", PICTURES)
def test_picture(fits, name, tmp_path):
    check_picture(f"data_{name}", lambda: mx.plot.data_and_model(*fits[name], **PICTURES[name]), tmp_path)


@pytest.mark.grid
@pytest.mark.parametrize("name", PICTURES)
def test_mplhep(fits, name):
    check_mplhep(name, lambda: mx.plot.data_and_model(*fits[name], **PICTURES[name]))


@pytest.mark.slow
def test_a_sample_looks_the_same_in_each_channel():
    """Of others than are in this channel, too: colours and order are those of the sums over all."""

    def channel(name, **samples):
        listed = [{"name": sample, "data": [size], "modifiers": []} for sample, size in samples.items()]
        listed[0]["modifiers"] = [{"name": "mu", "type": "normfactor", "data": None}]
        return {"name": name, "samples": listed}

    sizes = {"SR": {"signal": 30.0, "top": 20.0}, "CR": {"signal": 1.0, "top": 90.0, "fakes": 200.0}}
    workspace = WORKSPACE | {
        "channels": [channel(name, **samples) for name, samples in sizes.items()],
        "observations": [{"name": name, "data": [sum(samples.values())]} for name, samples in sizes.items()],
    }
    problem = mx.io.from_pyhf(workspace)
    result = mx.fit(*problem)
    pictures = {name: mx.plot.data_and_model(problem[0], result, problem[2], part=name)[0] for name in sizes}
    orders = {name: [t.get_text() for t in ax.get_legend().get_texts()][2:] for name, ax in pictures.items()}
    assert orders == {"SR": ["signal", "top"], "CR": ["signal", "top", "fakes"]}  # from the top
    colours = [{n: labelled(ax)[n].get_facecolor() for n in orders[name]} for name, ax in pictures.items()]
    assert colours[0] == {n: colours[1][n] for n in ("signal", "top")}
    assert len(set(colours[1].values())) == 3


def test_of_many_samples_the_smallest_are_drawn_as_one():
    templates = {f"s{i:02}": np.full(4, 2.0**i) for i in range(12)}
    nll = mx.TemplateNLL({name: mx.Counts(1e6 * t, 1e6 * t) for name, t in templates.items()})
    params = {name: float(t.sum()) for name, t in templates.items()}
    counts = jnp.asarray(sum(templates.values()))
    result = mx.fit(nll, {n: mx.Parameter(v, fixed=n != "s11") for n, v in params.items()}, counts)
    ax, _ = mx.plot.data_and_model(nll, result, counts)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["Data", "Model", "4 others", *(f"s{i:02}" for i in range(4, 12))]
    drawn = [patch for patch in ax.patches if patch.get_label() == "4 others"]
    heights, _, base = drawn[0].get_data()
    np.testing.assert_allclose(heights - base, np.sum([templates[f"s{i:02}"] for i in range(4)], axis=0), rtol=1e-12)
