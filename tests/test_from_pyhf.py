"""HistFactory workspaces in pyhf's format, against pyhf."""

import copy
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import fuzz
import migrax as mx
import workspaces
from migrax.io.histfactory import shifts
from workspaces import SMALL, read, sbottom, workspace

pytest.importorskip("pyhf")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyhf's own

CASES = {
    **{name: (spec, None, codes) for name, (spec, codes) in SMALL.items()},
    "cabinetry": (read("cabinetry/workspace.json"), None, None),
    **{
        kind: (read(f"hs3/pairs/simplemodel_{kind}-background_hifa.json"), None, None)
        for kind in ("correlated", "uncorrelated")
    },
    **{
        case["name"]: (case["workspace"], None, {"normsys": "code1", "histosys": "code0"})
        for case in read("pyhf/validation_cases.json")
    },
    "sbottom": (*sbottom(), None),
}


def same(spec, interpolation, patch=None, n=100):
    nll, params, data = mx.io.from_pyhf(spec, patch=patch, interpolation=interpolation)
    full = mx.io._json_patch.patched(spec, patch)
    model, theirs, their_slope = workspaces.peer(full, interpolation)
    ours = jax.jit(lambda x: nll(workspaces.tree(model, params, x), data))
    slope = jax.jit(jax.grad(lambda x: nll(workspaces.tree(model, params, x), data)))
    compared = 0
    for i, x in enumerate(workspaces.points(model, n)):
        expected = float(theirs(x))
        if np.isnan(expected):  # negative yields
            assert np.isnan(float(ours(x)))
            continue
        compared += 1
        np.testing.assert_allclose(float(ours(x)), expected, rtol=1e-12)
        if i < 10:
            reference = np.asarray(their_slope(x))
            np.testing.assert_allclose(slope(x), reference, rtol=1e-9, atol=1e-9 * np.max(np.abs(reference)))
    assert compared > 0.8 * n
    return nll, params, data, model


@pytest.mark.grid
@pytest.mark.parametrize("case", CASES)
def test_same_likelihood(case):
    spec, patch, interpolation = CASES[case]
    nll, params, data, model = same(spec, interpolation, patch)
    assert repr(nll).startswith("HistFactory(")
    config = model.config
    free = [name for name, fixed in zip(config.par_names, config.suggested_fixed(), strict=True) if not fixed]
    assert sorted(mx.names(params)) == sorted(free)
    assert nll.poi == config.poi_name
    starts = workspaces.tree(model, params, np.array(config.suggested_init()))
    bounds = np.array(config.suggested_bounds())
    for name, parameter in params.items():
        np.testing.assert_allclose(parameter.value, starts[name])
        low_high = bounds[config.par_slice(name)].T.reshape(2, *parameter.value.shape)
        np.testing.assert_allclose([parameter.lower, parameter.upper], low_high)
    assert float(mx.fit(nll, params, data).valid) == 1


@pytest.mark.grid
@pytest.mark.parametrize("bins", [256, 2000, 10_000])
def test_500_parameters(bins):
    rng = np.random.default_rng(0)
    nominal = rng.uniform(20.0, 200.0, bins)
    norms = [workspaces.modifier("normsys", f"n{i:03d}", {"hi": 1.01, "lo": 0.99}) for i in range(490)]
    shapes = [
        workspaces.modifier(
            "histosys", f"h{i}", {"hi_data": list(nominal * 1.02), "lo_data": list(nominal * (0.98 + 0.001 * i))}
        )
        for i in range(9)
    ]
    spec = workspace({"SR": {"s": (0.1 * nominal, [workspaces.MU]), "b": (nominal, norms + shapes)}})
    nll, params, data = mx.io.from_pyhf(spec)
    assert len(mx.names(params)) == 500
    value, gradient = jax.jit(jax.value_and_grad(nll))(mx.resolve(params), data)
    assert all(np.all(np.isfinite(g)) for g in gradient.values())
    # at the start all alphas are 0
    expected = scipy.stats.poisson.logpmf(np.asarray(data["main"]["SR"]), 1.1 * nominal).sum()
    np.testing.assert_allclose(value, -expected + 0.5 * 499 * np.log(2 * np.pi), rtol=1e-12)


class TestSbottom:
    """ATLAS SUSY-2018-31, 64 parameters, with a signal."""

    @pytest.fixture(scope="class")
    @staticmethod
    def fitted():
        spec, patch = sbottom()
        nll, params, data = mx.io.from_pyhf(spec, patch=patch)
        return nll, params, data, mx.fit(nll, params, data)

    def test_cls(self, fitted):
        nll, params, data, _ = fitted
        found = mx.hypotest(nll, params, data, nll.poi, 1.0)
        expected = read("sbottom/expected.json")["points"]["RegionA 1300_205_60"]
        np.testing.assert_allclose(found.cls, expected["CLs_obs"], rtol=1.5e-5)
        np.testing.assert_allclose(found.expected_cls, expected["CLs_exp"], rtol=1.5e-5)

    def test_minimum(self, fitted):
        """Against iminuit on pyhf's own likelihood."""
        iminuit = pytest.importorskip("iminuit")
        _, _params, _, result = fitted
        assert bool(result.valid)
        model, theirs, slope = workspaces.peer(mx.io._json_patch.patched(*sbottom()))
        m = iminuit.Minuit(theirs, np.array(model.config.suggested_init()), grad=slope)
        m.limits, m.errordef, m.strategy, m.tol = model.config.suggested_bounds(), 0.5, 2, 1e-4
        m.migrad()
        np.testing.assert_allclose(result.nll, m.fval, atol=1e-6)
        values = dict(zip(model.config.par_names, np.array(m.values), strict=True))
        errors = np.where(np.asarray(result.errors) > 0, result.errors, 1.0)
        off = np.array([values[name] for name in result.names]) - np.asarray(result.values)
        assert np.max(np.abs(off) / errors) < 3e-3

    @pytest.mark.slow
    def test_toys(self, fitted):
        nll, _, _, result = fitted
        toys = mx.fit_toys(nll, result.params, mx.Toys(64, jax.random.key(0)), covariance=result.covariance)
        assert float(jnp.mean(toys.valid)) > 0.98
        one = mx.sample(nll, result.params, jax.random.fold_in(jax.random.key(0), 3))
        single = mx.fit(nll, result.params, one)
        error = np.where(np.asarray(single.errors) > 0, single.errors, 1.0)
        np.testing.assert_allclose((toys.values[3] - single.values) / error, 0, atol=1e-4)


class TestLikelihood:
    spec = SMALL["channels of different lengths"][0]

    @pytest.mark.slow
    def test_what_is_expected(self):
        nll, params, _ = mx.io.from_pyhf(self.spec)
        assert set(nll.channels) == {"SR", "CR", "VR", "WR"}
        by_sample = nll.expected(params)
        np.testing.assert_allclose(by_sample["CR"]["fakes"], [1.0, 2.0, 3.0, 4.0])
        for channel, counts in nll.prediction(params)["main"].items():
            np.testing.assert_allclose(sum(by_sample[channel].values()), counts)
        assert "4 channels" in repr(nll)
        assert nll.samples["CR"] == ("top", "fakes")
        with pytest.raises(ValueError, match="'SR' has the samples 'signal', 'top', 'fakes'; not 'fake'"):
            nll.template("SR", "fake")
        with pytest.raises(ValueError, match=r"the channels are .*; not 'XR'"):
            nll.template("XR", "fakes")
        with pytest.raises(ValueError, match="has 2 bins, the yields have shape"):
            nll.with_template("SR", "signal", jnp.ones(3))

    @pytest.mark.slow
    def test_lists_are_counts_too(self):
        nll, params, data = mx.io.from_pyhf(self.spec)
        plain = {part: {name: np.asarray(x).tolist() for name, x in d.items()} for part, d in data.items()}
        assert float(mx.fit(nll, params, plain).nll) == pytest.approx(float(mx.fit(nll, params, data).nll), rel=1e-12)
        plain["main"]["SR"] = [57, -1]
        failed = mx.fit(nll, params, plain)
        assert not bool(failed.valid)

    @pytest.mark.slow
    def test_another_template(self):
        """Variations move with it: the workspace that has it from the start."""
        changed = copy.deepcopy(self.spec)
        top = next(c for c in changed["channels"] if c["name"] == "CR")["samples"][0]
        move = np.array([1.0, -2.0, 3.0, 1.0])
        top["data"] = list(np.array(top["data"]) + move)
        shapes = next(m for m in top["modifiers"] if m["type"] == "histosys")["data"]
        for key in shapes:
            shapes[key] = list(np.array(shapes[key]) + move)
        nll, params, data = mx.io.from_pyhf(self.spec)
        other, _, _ = mx.io.from_pyhf(changed)
        ours = nll.with_template("CR", "top", nll.template("CR", "top") + move)
        at = mx.resolve(params) | {"norm": jnp.array(0.7), "shape": jnp.array(-1.7)}
        np.testing.assert_allclose(ours(at, data), other(at, data), rtol=1e-13)

    @pytest.mark.slow
    def test_slope_by_a_template(self):
        """Of the expected CLs with respect to the signal, by `with_template`."""
        nll, params, data = mx.io.from_pyhf(SMALL["normsys code 4"][0])
        signal = nll.template("SR", "signal")

        @jax.jit
        def expected_cls(scale):
            return mx.hypotest(nll.with_template("SR", "signal", scale * signal), params, data, "mu", 1.0).expected_cls[
                2
            ]

        slope, h = jax.jit(jax.jacfwd(expected_cls))(1.0), 1e-3
        np.testing.assert_allclose(slope, (expected_cls(1 + h) - expected_cls(1 - h)) / (2 * h), rtol=1e-4)
        assert slope < 0

    def test_toys_and_asimov(self):
        nll, params, _data = mx.io.from_pyhf(self.spec)
        asimov = mx.asimov(nll, params)
        result = mx.fit(nll, params, asimov)
        np.testing.assert_allclose(result.values, [float(v) for v in _free(params)], atol=1e-6)
        toys = mx.sample(nll, params, jax.random.key(1), 4000)
        for part in ("main", "aux"):
            for name, drawn in toys[part].items():
                expected = asimov[part][name]
                spread = jnp.std(drawn, axis=0) + 1e-12
                assert np.all(np.abs(jnp.mean(drawn, axis=0) - expected) < 4.5 * spread / np.sqrt(4000)), name
        few = jax.tree.map(lambda a: a[:20], toys)
        batch = jax.vmap(lambda d: mx.fit(nll, params, d))(few)
        assert float(jnp.mean(batch.valid)) > 0.9
        fits = mx.fit_toys(nll, params, few, covariance=mx.fit(nll, params, asimov).covariance)
        good = np.asarray(batch.valid & fits.valid)
        error = np.where(np.asarray(batch.errors) > 0, batch.errors, 1.0)
        np.testing.assert_allclose(((fits.values - batch.values) / error)[good], 0, atol=1e-4)

    @pytest.mark.slow
    def test_constants_are_added(self):
        nll, params, data = mx.io.from_pyhf(self.spec)
        result = mx.fit(nll, params, data)
        np.testing.assert_allclose(result.nll, nll(result.params, data), rtol=1e-13)
        np.testing.assert_allclose(nll.deviance(result.params, data), 2 * nll.varying(result.params, data))
        minos = mx.minos(nll, result, data, "mu")
        risen = mx.fit(nll, mx.fix(result.params, "mu", result["mu"].value + minos.upper[0]), data)
        np.testing.assert_allclose(risen.nll - result.nll, 0.5, rtol=1e-6)
        toys = mx.fit_toys(nll, result.params, jax.tree.map(lambda a: a[None], data), covariance=result.covariance)
        np.testing.assert_allclose(toys.nll[0], result.nll, rtol=1e-10)
        for curve in (mx.profile, mx.scan):  # which once left them out
            found = curve(nll, result, data, "mu", result["mu"].value + jnp.array([0.0, 0.1]))
            np.testing.assert_allclose(found.nll, result.nll + 0.5 * found.rise, rtol=1e-12)

    def test_idle_bins_count_for_nothing(self):
        """A bin without an error has no measurement that says something."""
        spec, _ = SMALL["staterror without error or events"]
        nll, params, data = mx.io.from_pyhf(spec)
        assert mx.names(params) == ("mc[0]", "mu")
        assert nll.ndata(data) == 3 + 1
        free = copy.deepcopy(spec)
        free["measurements"][0]["config"]["parameters"] = [{"name": "mc", "fixed": False}]
        nll, params, data = mx.io.from_pyhf(free)
        assert mx.names(params) == ("mc[0]", "mc[1]", "mc[2]", "mu")
        assert nll.ndata(data) == 3 + 3

    @pytest.mark.float32
    def test_float32(self):
        nll, params, data = mx.io.from_pyhf(self.spec)
        to32 = lambda t: jax.tree.map(lambda a: a.astype(jnp.float32), t)  # noqa: E731
        small = mx.fit(to32(nll), to32(params), to32(data))
        assert small.values.dtype == jnp.float32
        assert bool(small.valid)

    @pytest.mark.slow
    def test_wrong_data(self):
        nll, params, data = mx.io.from_pyhf(self.spec)
        for bad, message in (
            ({"main": data["main"]}, "these lack 'aux'"),
            (data | {"more": 1.0}, "these have 'more' too"),
            (data | {"main": {"SR": jnp.ones(2)}}, "lack the channel 'VR'"),
            (
                data | {"main": data["main"] | {"SRR": jnp.ones(2)}},
                r"have 'SRR', which is no channel .* did you mean 'SR'",
            ),
            (data | {"main": data["main"] | {"SR": jnp.ones(3)}}, "'SR' has 2 bins"),
            (data | {"aux": data["aux"] | {"norm": jnp.ones(2)}}, "'norm' has shape"),
            (data | {"aux": {}}, 'the "aux" data lack the constrained parameter'),
            (data | {"aux": data["aux"] | {"nrm": 0.0}}, "have 'nrm', which is no constrained parameter"),
        ):
            with pytest.raises(ValueError, match=message):
                mx.fit(nll, params, bad)
        with pytest.raises(TypeError, match="one list of numbers, as pyhf's are"):
            mx.fit(nll, params, [1.0, 2.0])
        with pytest.raises(ValueError, match="needs a parameter of interest, and poi is None"):
            mx.upper_limit(nll, params, data, None)
        with pytest.raises(ValueError, match="the parameters have no"):
            mx.fit(nll, {"mu": mx.Parameter(1.0)}, data)
        failed = mx.fit(nll, params, data | {"main": data["main"] | {"SR": jnp.array([3.0, -1.0])}})
        assert not bool(failed.valid)
        assert "SR" in failed.message


def _free(params):
    return [v for name in sorted(params) for v in np.ravel(params[name].value)[_mask(params[name])]]


def _mask(parameter):
    return ~np.broadcast_to(np.asarray(parameter.fixed), (parameter.value.size,))


class TestPatches:
    @pytest.mark.slow
    def test_path_and_list(self, tmp_path):
        spec, patch = sbottom()
        whole = tmp_path / "workspace.json"
        whole.write_text(json.dumps(spec))
        where = tmp_path / "patch.json"
        where.write_text(json.dumps(patch))
        one, params, data = mx.io.from_pyhf(whole, patch=str(where))
        other, _, _ = mx.io.from_pyhf(spec, patch=patch)
        assert float(one(params, data)) == float(other(params, data))
        with pytest.warns(UserWarning, match=r"config\.poi: 'mu_SIG' is the parameter of no modifier"):
            background, params, data = mx.io.from_pyhf(spec)
        assert background.poi is None
        assert len(background.channels) == len(one.channels) + 1
        assert bool(mx.fit(background, params, data).valid)

    def test_set(self):
        spec, patch = sbottom()
        text = json.dumps(spec, sort_keys=True, ensure_ascii=False).encode()
        digests = {"sha256": hashlib.sha256(text).hexdigest()}
        patches = {
            "metadata": {"digests": digests, "labels": ["m1", "m2", "m3"], "name": "signals"},
            "patches": [{"metadata": {"name": "first", "values": [1300, 205, 60]}, "patch": patch}],
            "version": "1.0.0",
        }
        direct = mx.io.from_pyhf(spec, patch=patch)
        for which in ("first", (1300, 205, 60)):
            nll, params, data = mx.io.from_pyhf(spec, patch=(patches, which))
            assert float(nll(params, data)) == float(direct[0](params, data))
        with pytest.raises(ValueError, match="no patch 'second'; it has 'first'"):
            mx.io.from_pyhf(spec, patch=(patches, "second"))
        with pytest.raises(ValueError, match="give patch="):
            mx.io.from_pyhf(spec, patch=patches)
        other = SMALL["lumi"][0]
        with pytest.raises(ValueError, match="for another document: its sha256"):
            mx.io.from_pyhf(other, patch=(patches, "first"))

    @pytest.mark.parametrize(
        ("patch", "message"),
        [
            ([{"op": "remove", "path": "/channels/9"}], "does not fit"),
            ([{"op": "replace", "path": "/nowhere/0", "value": 1}], "does not fit"),
            ([{"op": "add", "path": "/channels/x", "value": 1}], "does not fit"),
            ([{"path": "/channels/0"}], r"patch\[0\]: has no 'op'"),
            ([{"op": "jump", "path": "/channels/0"}], "does not fit"),
            ({"op": "remove"}, "a patch is an array"),
        ],
    )
    def test_that_does_not_fit(self, patch, message):
        with pytest.raises(ValueError, match=message):
            mx.io.from_pyhf(SMALL["lumi"][0], patch=patch)


def broken(path, value):
    """A workspace with something else at the path, such as "channels.0.name"; `...` takes it away."""
    spec = copy.deepcopy(SMALL["channels of different lengths"][0])
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    node = spec
    for key in way:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return spec


BROKEN = {
    "no channels": (broken("channels", ...), "the document: has no 'channels'"),
    "channels of another type": (broken("channels", {"a": 1}), "channels: must be an array, got an object"),
    "no channel": (broken("channels", []), "channels: is empty"),
    "a misspelt key": (
        broken("measurements", ...) | {"measurement": []},
        r"has no 'measurements' \(is 'measurement' meant for it\?\)|is the specification of a model",
    ),
    "a channel twice": (broken("channels.1.name", "SR"), r"channels\[1\]\.name: 'SR' is the name at channels\[0\]"),
    "a sample twice": (broken("channels.0.samples.1.name", "signal"), r"samples\[1\]\.name: 'signal' is the name at"),
    "a number as name": (broken("channels.0.name", 3), r"channels\[0\]\.name: must be a name, got 3"),
    "bins missing": (
        broken("channels.0.samples.1.data", [1.0]),
        r"channels\[0\]\.samples\[1\]\.data: has 1 entries, the first sample of the channel has 2",
    ),
    "a NaN": (broken("channels.0.samples.0.data", [1.0, float("nan")]), r"data\[1\]: must be a finite number, got nan"),
    "a text": (broken("channels.0.samples.0.data", [1.0, "x" * 10**7]), r"data\[1\]: must be a number, got 'xxx"),
    "true": (broken("channels.0.samples.0.data", [1.0, True]), r"data\[1\]: must be a number, got True"),
    "a huge integer": (broken("channels.0.samples.0.data", [1.0, 10**400]), "must be a finite number"),
    "unknown modifier": (
        broken("channels.0.samples.0.modifiers.0.type", "normfac"),
        r"channels\[0\]\.samples\[0\]\.modifiers\[0\]\.type: 'normfac' is no modifier",
    ),
    "no hi": (broken("channels.0.samples.1.modifiers.0.data", {"lo": 1.0}), r"modifiers\[0\]\.data: has no 'hi'"),
    "lo of zero": (
        broken("channels.0.samples.1.modifiers.0.data", {"lo": 0.0, "hi": 1.0}),
        r"data\.lo: a factor must be positive",
    ),
    "errors missing": (
        broken("channels.0.samples.1.modifiers.1.data", [1.0]),
        r"modifiers\[1\]\.data: has 1 entries, the sample has 2",
    ),
    "negative errors": (
        broken("channels.0.samples.1.modifiers.1.data", [1.0, -1.0]),
        "errors cannot be negative, and one is -1",
    ),
    "a modifier twice": (
        broken("channels.0.samples.1.modifiers.1", workspaces.NORM),
        r"modifiers\[1\]: the normsys 'norm' is at channels\[0\]\.samples\[1\]\.modifiers\[0\] already",
    ),
    "a name of two kinds": (
        broken("channels.0.samples.1.modifiers.0.name", "k"),
        r"normfactor 'k' has the name of the normsys at .*which needs another kind",
    ),
    "shapesys of two samples": (
        broken("channels.0.samples.1.modifiers.1", workspaces.modifier("shapesys", "fake_rate", [1.0, 1.0])),
        "there is a shapesys 'fake_rate' at .* already",
    ),
    "no observation": (broken("observations.0.name", "XR"), "observations: there is none of the channel 'SR'"),
    "counts missing": (
        broken("observations.0.data", [1.0]),
        r"observations\[0\]\.data: has 1 entries, the channel has 2",
    ),
    "negative counts": (broken("observations.0.data", [1.0, -1.0]), "a count cannot be negative"),
    "no luminosity": (broken("measurements.0.config.parameters", []), "the luminosity 'lumi' needs its value"),
    "no sigmas": (
        broken("measurements.0.config.parameters.0", {"name": "lumi", "auxdata": [1.0]}),
        r"parameters\[0\]: the luminosity 'lumi' needs \"auxdata\" and \"sigmas\"",
    ),
    "a misspelt entry of a parameter": (
        broken("measurements.0.config.parameters", [workspaces.LUMI, {"name": "mu", "bound": [[0.0, 1.0]]}]),
        r"parameters\[1\]: 'bound' means nothing here \(is 'bounds' meant\?\)",
    ),
    "bounds the other way": (
        broken("measurements.0.config.parameters.0.bounds", [[1.1, 0.9]]),
        "a lower bound must be below the upper one",
    ),
    "start outside": (broken("measurements.0.config.parameters.0.inits", [2.0]), "'lumi' starts at .*, outside of"),
    "too many inits": (broken("measurements.0.config.parameters.0.inits", [1.0, 1.0]), "'lumi' has 1 entries, and 2"),
    "sigmas of what has none": (
        broken("measurements.0.config.parameters", [workspaces.LUMI, {"name": "mu", "sigmas": [1.0]}]),
        "'mu' is of a normfactor, which has no sigmas",
    ),
    "a parameter twice": (
        broken("measurements.0.config.parameters", [workspaces.LUMI, workspaces.LUMI]),
        r"'lumi' is at measurements\[0\]\.config\.parameters\[0\] already",
    ),
    "modifiers that are none": (broken("channels.0.samples.0.modifiers", "mu"), "modifiers: must be an array"),
    "nothing": ({}, "has no 'measurements'"),
    "an array": ([1, 2], "must be an object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken(case):
    spec, message = BROKEN[case]
    with pytest.raises(ValueError, match=message) as raised:
        mx.io.from_pyhf(spec)
    assert len(str(raised.value)) < 400


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        mx.io.from_pyhf(tmp_path / "nothing.json")
    for text in ("{", "\xff", "[" * 100_000):
        bad = tmp_path / "bad.json"
        bad.write_bytes(text.encode("latin1"))
        with pytest.raises(ValueError, match=r"no JSON|too deep|must be an object"):
            mx.io.from_pyhf(bad)
    with pytest.raises(TypeError, match=r"json\.loads"):
        mx.io.from_pyhf('{"channels": []}')
    with pytest.raises(TypeError, match="must be a path"):
        mx.io.from_pyhf(3)
    model, _, _ = workspaces.peer(SMALL["lumi"][0])
    with pytest.raises(TypeError, match=r"give the pyhf\.Workspace"):
        mx.io.from_pyhf(model)


def test_fuzz():
    assert fuzz.errors(mx.io.from_pyhf, SMALL["channels of different lengths"][0], places=150, each=3) > 200


class TestChoices:
    def test_measurement(self):
        spec = copy.deepcopy(SMALL["lumi"][0])
        spec["measurements"].append({"name": "other", "config": {"poi": "", "parameters": [workspaces.LUMI]}})
        assert mx.io.from_pyhf(spec)[0].poi == "mu"
        other, _, _ = mx.io.from_pyhf(spec, measurement="other")
        assert other.poi is None
        assert other.measurement == "other"
        with pytest.raises(ValueError, match="no measurement 'third'; there are 'main', 'other'"):
            mx.io.from_pyhf(spec, measurement="third")

    @pytest.mark.parametrize(
        ("interpolation", "error", "message"),
        [
            ({"normsys": "code0"}, ValueError, "normsys must be one of code1, code4; got 'code0'"),
            ({"histosys": 1}, ValueError, "histosys must be one of code0, code2, code2c, code4p"),
            ({"modifier_settings": {"normsys": "code0"}}, ValueError, "normsys must be one of"),
            ({"normsy": 1}, ValueError, "is of normsys and histosys; got 'normsy'"),
            ("code4", TypeError, "interpolation must be as in"),
        ],
    )
    def test_interpolation(self, interpolation, error, message):
        with pytest.raises(error, match=message):
            mx.io.from_pyhf(SMALL["lumi"][0], interpolation=interpolation)

    def test_modifier_settings_of_pyhf(self):
        spec = SMALL["normsys code 1"][0]
        ours = mx.io.from_pyhf(spec, interpolation={"normsys": {"interpcode": "code1"}})
        same_one = mx.io.from_pyhf(spec, interpolation={"normsys": "code1"})
        at = mx.resolve(ours[1]) | {"norm": jnp.array(0.5)}
        assert float(ours[0](at, ours[2])) == float(same_one[0](at, same_one[2]))

    def test_code_2_goes_on(self):
        """pyhf's code 2 is that of CERN-OPEN-2012-016, which jumps at one standard deviation; ROOT's goes on."""
        spec = SMALL["histosys code 2"][0]

        def yields(code, alpha):
            nll, params, _ = mx.io.from_pyhf(spec, interpolation={"histosys": code})
            return nll.expected(mx.resolve(params) | {"shape": jnp.array(alpha)})["SR"]["background"]

        for alpha in (-0.999, 0.3, 0.999):
            np.testing.assert_allclose(yields("code2", alpha), yields("code2c", alpha), rtol=1e-14)
        for side in (-1.0, 1.0):
            inside, outside = (yields("code2c", side * (1 + h)) for h in (-1e-9, 1e-9))
            np.testing.assert_allclose(inside, outside, rtol=1e-8)
            assert np.max(np.abs(yields("code2", side * (1 + 1e-9)) / inside - 1)) > 0.02
        np.testing.assert_allclose(yields("code2c", 1.0), workspaces.UP_DOWN["hi_data"])
        np.testing.assert_allclose(yields("code2c", -1.0), workspaces.UP_DOWN["lo_data"])

    def test_one_trace(self):
        nll, params, data = mx.io.from_pyhf(SMALL["lumi"][0])
        compiled = jax.jit(lambda d: mx.fit(nll, params, d).values)
        again = mx.io.from_pyhf(SMALL["lumi"][0])[0]
        assert jax.tree.structure(nll) == jax.tree.structure(again)
        assert hash(jax.tree.structure(nll)) == hash(jax.tree.structure(again))
        assert np.all(np.isfinite(compiled(data)))


class TestSparse:
    """Histosys that touch few bins are stored without their zeros: the same model as with them."""

    @staticmethod
    def spec(n=30, bins=40, samples=4):
        rng = np.random.default_rng(4)
        channels = []
        for name in ("a", "b"):
            mu = {"type": "normfactor", "name": "mu", "data": None}
            made = [{"name": "signal", "data": list(rng.uniform(5, 10, bins)), "modifiers": [mu]}]
            made += [
                {"name": f"b{j}", "data": list(rng.uniform(50, 100, bins)), "modifiers": []} for j in range(samples)
            ]
            channels.append({"name": name, "samples": made})
        for k in range(n):
            sample = channels[k % 2]["samples"][1 + k % samples]
            first, shift = rng.integers(0, bins - 3), np.zeros(bins)
            shift[first : first + 3] = 0.1 * rng.normal(size=3)
            data = {
                "hi_data": list(sample["data"] * (1 + shift)),
                "lo_data": list(sample["data"] * (1 - 0.7 * shift)),
            }
            sample["modifiers"].append({"type": "histosys", "name": f"np{k:02d}", "data": data})
        counts = [[float(np.round(x)) for x in np.sum([s["data"] for s in c["samples"]], 0)] for c in channels]
        return {
            "channels": channels,
            "observations": [{"name": c["name"], "data": n} for c, n in zip(channels, counts, strict=True)],
            "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
            "version": "1.0.0",
        }

    def both(self, monkeypatch, **options):
        dense = mx.io.from_pyhf(self.spec(), **options)
        monkeypatch.setattr(shifts, "_FEWEST", 0)
        sparse = mx.io.from_pyhf(self.spec(), **options)
        assert dense[0].main.blocks[0].shifts is None
        assert sparse[0].main.blocks[0].shifts is not None
        assert sparse[0].main.blocks[0].shape_hi.size == 0
        return dense, sparse

    @pytest.mark.parametrize("code", ["code0", "code2", "code4p"])
    def test_values(self, code, monkeypatch):
        (dense, params, data), (sparse, _, _) = self.both(monkeypatch, interpolation={"histosys": code})
        rng = np.random.default_rng(1)
        points = {name: jnp.asarray(rng.normal(size=20) * 1.3) for name in params}
        one, other = (jax.jit(jax.vmap(jax.value_and_grad(lambda p, nll=nll: nll(p, data)))) for nll in (dense, sparse))
        for a, b in zip(jax.tree.leaves(one(points)), jax.tree.leaves(other(points)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-9)
        assert sparse.main.kinks == dense.main.kinks
        assert (sparse.main.kinks is None) == (code != "code0")

    def test_fits(self, monkeypatch):
        results = [mx.fit(*problem) for problem in self.both(monkeypatch)]
        assert all(bool(result.valid) for result in results)
        np.testing.assert_allclose(results[1].values, results[0].values, atol=1e-6)
        np.testing.assert_allclose(results[1].errors, results[0].errors, rtol=1e-6)

    def test_another_template(self, monkeypatch):
        (dense, params, data), (sparse, _, _) = self.both(monkeypatch)
        yields = dense.template("a", "b1") * 1.1
        at = {name: 0.3 for name in params}
        one, other = (nll.with_template("a", "b1", yields)(at, data) for nll in (dense, sparse))
        np.testing.assert_allclose(one, other, rtol=1e-12)
        assert abs(one - dense(at, data)) > 1e-3

    def test_float32(self, monkeypatch):
        _, (sparse, params, data) = self.both(monkeypatch)
        at = {name: jnp.asarray(0.3, jnp.float32) for name in params}
        value = sparse.main(at, data["main"])
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, sparse.main({name: 0.3 for name in params}, data["main"]), rtol=1e-4)

    def test_where_it_is_not_worth_it(self, monkeypatch):
        monkeypatch.setattr(shifts, "_WORTH", 1000)
        monkeypatch.setattr(shifts, "_FEWEST", 0)
        assert mx.io.from_pyhf(self.spec())[0].main.blocks[0].shifts is None
