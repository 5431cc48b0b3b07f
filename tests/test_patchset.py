"""Signals of a set of patches: one program for all of them, and all of them in one call."""

import copy
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest

import migrax as mx
from migrax._util.jit import jit
from migrax._util.labels import unlabelled
from migrax.io.histfactory.main import Histograms
from workspaces import MU, modifier, workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyhf's own

NORM, SHAPE = "norm", "shape"


def histosys(nominal, up, down=None):
    nominal = np.array(nominal)
    down = 2 - np.array(up) if down is None else down
    return modifier("histosys", SHAPE, {"hi_data": list(nominal * up), "lo_data": list(nominal * down)})


def background(data, errors):
    extra = [modifier("normsys", NORM, {"hi": 1.12, "lo": 0.91}), histosys(data, [1.04, 0.97])]
    return (data, [*extra, modifier("staterror", "mc_" + str(int(data[0])), errors)])


BACKGROUND = workspace(
    {
        "SR": {"top": background([50.0, 20.0], [3.0, 2.0])},
        "SR2": {"top": background([31.0, 12.0], [2.0, 1.5])},
        "CR": {"top": background([400.0, 300.0], [8.0, 7.0])},
    },
    [{"name": "mu", "bounds": [[0.0, 20.0]], "inits": [1.0]}],
)
BACKGROUND["observations"][0]["data"] = [53, 25]


def signal(name, size, slope, drop=()):
    """A patch: a signal in two channels, with its own error of its normalisation."""
    operations = []
    for i, channel in enumerate(("SR", "SR2")):
        data = [size * (1 + 0.3 * i), size * slope]
        extra = [
            MU,
            modifier("normsys", NORM, {"hi": 1.05, "lo": 0.96}),
            modifier("normsys", "signal_" + NORM, {"hi": 1.0 + 0.02 * size, "lo": 0.9}),
            histosys(data, [1.1, 0.95]),
        ]
        if channel not in drop:
            kept = [m for m in extra if (m["type"], m["name"]) not in drop]
            value = {"name": name, "data": data, "modifiers": kept}
            operations.append({"op": "add", "path": f"/channels/{i}/samples/-", "value": value})
    return operations


def named(i, mass, operations):
    return {"metadata": {"name": f"sig_{mass}_{i}", "values": [mass, i]}, "patch": operations}


def patchset(patches):
    digest = pyhf.utils.digest(BACKGROUND)
    about = {
        "references": {"hepdata": "ins1234567"},
        "description": "",
        "labels": ["mass", "i"],
        "digests": {"sha256": digest},
    }
    return {"metadata": about, "patches": patches, "version": "1.0.0"}


MASSES = [300 + 25 * i for i in range(6)]
SET = patchset([named(i, m, signal(f"sig_{m}", 3.0 + 2.0 * i, 0.3 + 0.1 * i)) for i, m in enumerate(MASSES)])
STACK = mx.io.from_pyhf(BACKGROUND, patchset=SET)


def hypotest_of_point(nll, params, data):
    return mx.hypotest(nll, params, data, "mu", 1.0)


def one(i, stack=STACK):
    return jax.tree.map(lambda x: x[i], stack)


def peers(i):
    """pyhf's model and data of a point."""
    found = pyhf.Workspace(pyhf.PatchSet(SET).apply(BACKGROUND, SET["patches"][i]["metadata"]["name"]))
    model = found.model(modifier_settings={"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}})
    return model, found.data(model)


def cls_of_pyhf(i, at=1.0):
    pyhf.set_backend("numpy", "scipy")
    model, data = peers(i)
    observed, expected = pyhf.infer.hypotest(at, data, model, test_stat="qtilde", return_expected_set=True)
    return float(observed), np.array([float(x) for x in expected])


@pytest.fixture(scope="module")
def tests():
    return jax.vmap(hypotest_of_point)(*STACK)


def test_cls_of_all_points_in_one_call_is_pyhfs(tests):
    assert tests.valid.shape == (6,)
    assert bool(jnp.all(tests.valid))
    for i in (0, 3, 5):
        observed, expected = cls_of_pyhf(i)
        np.testing.assert_allclose(tests.cls[i], observed, atol=2e-4)
        np.testing.assert_allclose(tests.expected_cls[i], expected, atol=5e-4)


def test_the_points_are_named():
    points = STACK[0].points
    assert points.names == tuple(f"sig_{m}_{i}" for i, m in enumerate(MASSES))
    assert points.labels == ("mass", "i")
    np.testing.assert_array_equal(np.array(points.values), [[m, i] for i, m in enumerate(MASSES)])
    assert STACK[0].samples["SR"] == ("top", "sig_*")
    assert STACK[0].samples["CR"] == ("top",)
    assert "6 points" in repr(STACK[0])


def test_the_value_of_each_is_the_one_that_is_read_alone():
    value = jax.jit(lambda nll, params, data: nll(mx.resolve(params), data))
    stacked = jax.jit(jax.vmap(lambda nll, params, data: nll(mx.resolve(params), data)))(*STACK)
    for i, patch in enumerate(SET["patches"]):
        nll, params, data = mx.io.from_pyhf(BACKGROUND, patch=(SET, patch["metadata"]["name"]))
        np.testing.assert_allclose(stacked[i], value(unlabelled(nll), params, data), rtol=1e-13)


def test_signals_one_by_one_share_one_program(monkeypatch):
    """Their samples have other names, which a program does not depend on."""
    traces, at = [0], Histograms.at

    def counted(self, *args):
        traces[0] += 1
        return at(self, *args)

    monkeypatch.setattr(Histograms, "at", counted)
    jax.clear_caches()  # other tests may have compiled this very program
    found = []
    for i in (1, 4):
        nll, params, data = mx.io.from_pyhf(BACKGROUND, patch=(SET, SET["patches"][i]["metadata"]["name"]))
        assert nll.samples["SR"] == ("top", f"sig_{MASSES[i]}")
        result = mx.fit(nll, params, data)
        found.append((traces[0], float(result.nll)))
        assert list(nll.expected(result.params)["SR"]) == ["top", f"sig_{MASSES[i]}"]
    assert found[0][0] > 0
    assert found[1][0] == found[0][0]
    assert found[0][1] != found[1][1]


@pytest.mark.slow
def test_a_likelihood_of_the_users_keeps_the_names():
    """Its code looks a sample up by its name."""

    class Own(eqx.Module):
        inner: mx.io.HistFactory
        name: str = eqx.field(static=True)

        def __call__(self, params, data):
            penalty = jnp.sum(self.inner.expected(params)["SR"][self.name])
            return self.inner(params, data) + 1e-3 * penalty

    nll, params, data = mx.io.from_pyhf(BACKGROUND, patch=(SET, "sig_300_0"))
    own, at = Own(nll, "sig_300"), mx.resolve(params)
    found = jit(lambda nll, params, data: nll(params, data))(own, at, data)
    np.testing.assert_allclose(found, nll(at, data) + 1e-3 * np.sum([3.0, 0.9]), rtol=1e-12)


def test_a_program_of_the_users_keeps_the_names():
    """What is jitted by the user is traced again, as it may look a sample up by its name."""
    each = [mx.io.from_pyhf(BACKGROUND, patch=(SET, SET["patches"][i]["metadata"]["name"]))[:2] for i in (1, 4)]
    expected = jax.jit(lambda nll, params: nll.expected(params)["SR"])
    for i, (nll, params) in zip((1, 4), each, strict=True):
        assert set(expected(nll, params)) == {"top", f"sig_{MASSES[i]}"}
    assert jax.tree.structure(unlabelled(each[0][0])) == jax.tree.structure(unlabelled(each[1][0]))


@pytest.mark.slow
def test_fits_are_those_of_each_alone():
    fits = jax.vmap(mx.fit)(*STACK)
    assert bool(jnp.all(fits.valid))
    alone = mx.fit(*one(3))
    np.testing.assert_allclose(fits.values[3], alone.values, atol=1e-7)
    np.testing.assert_allclose(fits.nll[3], alone.nll, rtol=1e-12)


@pytest.mark.slow
def test_limits_of_all_points_in_one_call():
    """At the limits CLs is 5 % in pyhf."""
    chosen = mx.io.from_pyhf(BACKGROUND, patchset=(SET, [SET["patches"][4]["metadata"]["name"], (300, 0)]))
    assert chosen[0].points.names == ("sig_400_4", "sig_300_0")
    limits = jax.vmap(lambda nll, params, data: mx.upper_limit(nll, params, data, "mu"))(*chosen)
    assert bool(jnp.all(limits.valid))
    np.testing.assert_allclose(cls_of_pyhf(4, at=float(limits.observed[0]))[0], 0.05, atol=2e-4)
    np.testing.assert_allclose(cls_of_pyhf(4, at=float(limits.expected[0, 2]))[1][2], 0.05, atol=2e-4)
    np.testing.assert_allclose(cls_of_pyhf(0, at=float(limits.observed[1]))[0], 0.05, atol=2e-4)


class TestPadding:
    @pytest.mark.slow
    def test_what_a_point_lacks(self):
        """A signal without events in one channel, one without a variation, one with other factors."""
        free = signal("d", 6.0, 0.4)
        for operation in free:
            operation["value"]["modifiers"].append(modifier("normfactor", "k"))
        patches = [
            named(0, 300, signal("a", 5.0, 0.5)),
            named(1, 300, signal("b", 5.0, 0.5, drop=["SR2"])),
            named(2, 300, signal("c", 5.0, 0.5, drop=[("histosys", SHAPE), ("normsys", "signal_" + NORM)])),
            named(3, 300, free),
        ]
        stack = mx.io.from_pyhf(BACKGROUND, patchset=patchset(patches))
        pyhf.set_backend("numpy", "scipy")
        for i in range(4):
            nll, params, data = one(i, stack)
            found = pyhf.Workspace(pyhf.PatchSet(patchset(patches)).apply(BACKGROUND, f"sig_300_{i}"))
            model = found.model()
            x = np.array(model.config.suggested_init()) + 0.1
            at = {
                n: jnp.asarray(x[model.config.par_slice(n)]).reshape(params[n].value.shape)
                for n in model.config.par_order
            }
            rest = {n: p.value for n, p in params.items() if n not in at}  # of nothing at this point
            added = sum(0.5 * np.log(2 * np.pi) for n in rest if n in data["aux"])
            right = -float(model.logpdf(x, found.data(model))[0]) + added
            np.testing.assert_allclose(float(nll(at | rest, data)), right, rtol=1e-12)

    def test_a_bin_without_events_at_one_point(self):
        """The parameter of its error floats for all, and nothing depends on it there."""

        def with_errors(size):
            operations = signal("s", 4.0, 0.5)
            value = operations[0]["value"]
            value["data"] = [4.0, size]
            value["modifiers"] = [MU, modifier("shapesys", "own", [1.0, 0.5 * size])]
            return operations

        stack = mx.io.from_pyhf(BACKGROUND, patchset=[with_errors(2.0), with_errors(0.0)])
        assert "own[1]" in mx.names(one(1, stack)[1])
        alone = mx.io.from_pyhf(BACKGROUND, patch=with_errors(0.0))
        assert "own[1]" not in mx.names(alone[1])
        padded, single = mx.fit(*one(1, stack)), mx.fit(*alone)
        assert bool(padded.valid)
        np.testing.assert_allclose(float(padded.nll), float(single.nll), rtol=1e-9)
        assert stack[0].points.names == ("0", "1")

    def test_a_bin_without_an_error_at_one_point_is_refused(self):
        def with_errors(error):
            operations = signal("s", 4.0, 0.5)
            operations[0]["value"]["modifiers"] = [MU, modifier("shapesys", "own", [1.0, error])]
            return operations

        with pytest.raises(ValueError, match=r"'own'\[1\] is fixed at the point '1', and floats at '0'"):
            mx.io.from_pyhf(BACKGROUND, patchset=[with_errors(0.5), with_errors(0.0)])

    def test_another_channel_is_refused(self):
        more = [*signal("s", 4.0, 0.5), {"op": "remove", "path": "/channels/2"}]
        with pytest.raises(ValueError, match="points '0' and '1' have different channels and numbers of bins"):
            mx.io.from_pyhf(BACKGROUND, patchset=[signal("s", 4.0, 0.5), more])


class TestSets:
    def test_a_path_an_object_and_a_list(self, tmp_path):
        path = tmp_path / "set.json"
        path.write_text(json.dumps(SET))
        single = tmp_path / "own.json"
        single.write_text(json.dumps(SET["patches"][2]["patch"]))
        of_path = mx.io.from_pyhf(BACKGROUND, patchset=path)
        of_object = mx.io.from_pyhf(BACKGROUND, patchset=pyhf.PatchSet(SET))
        of_list = mx.io.from_pyhf(BACKGROUND, patchset=[str(single), SET["patches"][3]["patch"]])
        for found in (of_path, of_object):
            assert eqx.tree_equal(found, STACK)
        assert of_list[0].points == mx.io.SignalPoints(("own", "1"), (), ((), ()))
        two = jax.tree.map(lambda x: x[2:4], STACK)
        assert eqx.tree_equal(of_list[1:], two[1:])
        assert jnp.array_equal(of_list[0].template("SR", "sig_3*"), two[0].template("SR", "sig_*"))

    def test_the_workspace_is_not_changed(self):
        before = copy.deepcopy(BACKGROUND)
        mx.io.from_pyhf(BACKGROUND, patchset=(SET, [(300, 0)]))
        assert before == BACKGROUND

    def test_a_fit_of_the_stack_itself_is_refused(self):
        with pytest.raises(ValueError, match=r"the likelihood holds 6 points: call a function of one by jax\.vmap"):
            STACK[0](mx.resolve(STACK[1]), STACK[2])
        with pytest.raises(ValueError, match="the likelihood holds 6 points"):
            STACK[0].expected(STACK[1])

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ((SET, ["other"]), "the set has no patch 'other'; it has 'sig_300_0'"),
            ((SET, "sig_300_0"), "a pair of it and a list of names or values"),
            ((SET, []), "no patch is chosen"),
            ((SET, [(300, 0), "sig_300_0"]), "the patch 'sig_300_0' is chosen twice"),
            ([], "the list of patches: is empty"),
            ([{"patches": []}], r"the list of patches\[0\]: a list of patches has an array of operations for each"),
            ([[{"op": "add", "path": "/nothing/0", "value": 1}]], "the patch '0': the patch does not fit"),
        ],
    )
    def test_what_is_refused(self, given, message):
        with pytest.raises(ValueError, match=message):
            mx.io.from_pyhf(BACKGROUND, patchset=given)

    def test_a_set_for_another_document(self):
        other = copy.deepcopy(BACKGROUND)
        other["observations"][0]["data"] = [1, 2]
        with pytest.raises(ValueError, match="is for another document"):
            mx.io.from_pyhf(other, patchset=SET)

    def test_a_patch_and_a_set(self):
        with pytest.raises(ValueError, match="give one of them"):
            mx.io.from_pyhf(BACKGROUND, patch=(SET, "sig_300_0"), patchset=SET)
