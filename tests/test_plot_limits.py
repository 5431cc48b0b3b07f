"""Pictures of limits and of CLs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from pictures import check_mplhep, check_picture

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

NLL = mx.PoissonNLL(lambda p: p["mu"] * jnp.array([5.0, 2.0]) + 10.0)
PARAMS, DATA = {"mu": mx.Parameter(0.5, lower=0.0, upper=20.0)}, jnp.array([12.0, 9.0])
VALUES = jnp.linspace(0.0, 3.0, 7)


@pytest.fixture(scope="module")
def tests():
    return jax.jit(jax.vmap(lambda mu: mx.hypotest(NLL, PARAMS, DATA, "mu", mu)))(VALUES)


@pytest.fixture(scope="module")
def limits():
    each = [mx.upper_limit(NLL, PARAMS, jnp.array([n, 9.0]), "mu") for n in (8.0, 12.0, 16.0)]
    return jax.tree.map(lambda *a: jnp.stack(a), *each)  # as jax.vmap gives them


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


@pytest.mark.usefixtures("close_figures")
def test_cls_scan(tests):
    ax = mx.plot.cls_scan(tests)
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["Observed"].get_xdata(), VALUES)
    np.testing.assert_allclose(drawn["Observed"].get_ydata(), tests.cls)
    np.testing.assert_allclose(drawn["Expected"].get_ydata(), tests.expected_cls[:, 2])
    assert ax.get_xlabel() == "mu"
    assert [text.get_text() for text in ax.texts] == ["95 % CL"]
    assert len(ax.collections) == 2
    inner, outer = (c.get_datalim(ax.transData) for c in reversed(ax.collections))
    assert outer.y1 >= inner.y1
    other = matplotlib.figure.Figure().subplots()
    assert mx.plot.cls_scan(tests, other, cl=None) is other
    assert not other.texts


@pytest.mark.usefixtures("close_figures")
def test_a_list_of_results(tests, limits):
    """Direct calls, one after the other, make the picture of the vmapped ones."""
    each = [mx.hypotest(NLL, PARAMS, DATA, "mu", mu) for mu in VALUES]
    drawn, expected = lines(mx.plot.cls_scan(each)), lines(mx.plot.cls_scan(tests))
    for name, line in expected.items():
        np.testing.assert_allclose(drawn[name].get_ydata(), line.get_ydata(), rtol=1e-7)
    singles = [jax.tree.map(lambda a, i=i: a[i], limits) for i in range(3)]
    drawn, expected = lines(mx.plot.limit_band(range(3), singles)), lines(mx.plot.limit_band(range(3), limits))
    assert np.array_equal(drawn["Observed"].get_ydata(), expected["Observed"].get_ydata())
    with pytest.raises(ValueError, match="of one parameter, of the same shape"):
        mx.plot.cls_scan([each[0], tests])
    with pytest.raises(TypeError, match="cls_scan takes a HypoTest, got list"):
        mx.plot.cls_scan([])


@pytest.mark.usefixtures("close_figures")
def test_limit_band(limits):
    ax = mx.plot.limit_band([3.0, 1.0, 2.0], limits, xlabel="Mass [GeV]")  # in any order
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["Observed"].get_xdata(), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(drawn["Observed"].get_ydata(), limits.observed[jnp.array([1, 2, 0])])
    assert ax.get_xlabel() == "Mass [GeV]"
    assert "Upper limit on mu at 95 % (CLs)" in ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()][2:] == ["Expected", "Observed"]


@pytest.mark.usefixtures("close_figures")
def test_what_failed_is_a_gap(limits):
    import equinox as eqx

    some = eqx.tree_at(lambda u: u.observed, limits, limits.observed.at[1].set(jnp.nan))
    ax = mx.plot.limit_band([1.0, 2.0, 3.0], some)
    assert np.isnan(lines(ax)["Observed"].get_ydata()[1])


@pytest.mark.usefixtures("close_figures")
def test_bad_input(tests, limits):
    with pytest.raises(TypeError, match="cls_scan takes a HypoTest, got UpperLimit"):
        mx.plot.cls_scan(limits)
    with pytest.raises(ValueError, match=r"limit_band got 3 limits, and x of shape \(2,\)"):
        mx.plot.limit_band([1.0, 2.0], limits)
    with pytest.raises(ValueError, match="many results along one axis"):
        mx.plot.limit_band(1.0, jax.tree.map(lambda a: a[0], limits))
    with pytest.raises(ValueError, match=r"mx\.hypotest"):
        mx.plot.cls_scan(jax.tree.map(lambda a: a[0], tests))


@pytest.mark.usefixtures("close_figures")
def test_pictures(tests, limits, tmp_path):
    check_picture("cls_scan", lambda: mx.plot.cls_scan(tests), tmp_path)
    masses = [100.0, 200.0, 300.0]
    check_picture("limit_band", lambda: mx.plot.limit_band(masses, limits, xlabel="Mass [GeV]"), tmp_path)


@pytest.mark.usefixtures("close_figures")
def test_mplhep(tests, limits):
    check_mplhep("cls_scan", lambda: mx.plot.cls_scan(tests))
    check_mplhep("limit_band", lambda: mx.plot.limit_band([100.0, 200.0, 300.0], limits, xlabel="Mass [GeV]"))
