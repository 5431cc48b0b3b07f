"""Datacards of CMS Combine: each construct against its formula, written out; pyhf where the interpolations agree."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import command_line
import migrax as mx
from fuzz import broken_lines

COUNTING = """\
imax 1
jmax 3
kmax *
---------------
bin bin1
observation 5
---------------
bin      bin1  bin1  bin1  bin1
process  ppX   WW    tt    fake
process  0     1     2     3
rate     1.47  0.64  0.22  0.7
---------------
lumi    lnN    1.11  -     1.11     -
xs_ppX  lnN    1.20  -     -        -
WW_norm gmN 4  -     0.16  -        -
tt_norm lnN    -     -     0.9/1.5  -
fake    lnN    -     -     -        1.30
"""
SHAPES = """\
imax * number of channels
jmax *
kmax *
shapes * * shapes.root $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC
bin ch1
observation -1
bin      ch1  ch1  ch1
process  sig  bkg  other
process  0    1    2
rate     -1   -1   -1
lumi     lnN    1.02 1.02 1.02
jes      shape  1    0.5  -
tail     shape  -    1    -
"""
TEMPLATES = {
    "ch1/data_obs": np.array([14.0, 11.0, 6.0, 2.0]),
    "ch1/sig": (np.array([1.0, 2.0, 3.0, 1.0]), np.array([0.2, 0.3, 0.4, 0.2])),
    "ch1/bkg": (np.array([10.0, 7.0, 3.0, 0.8]), np.array([1.0, 0.8, 0.6, 0.4])),
    "ch1/other": (np.array([2.0, 1.0, 0.5, 0.0]), np.array([0.4, 0.3, 0.5, 0.0])),
    "ch1/sig_jesUp": np.array([0.9, 2.1, 3.4, 1.2]),
    "ch1/sig_jesDown": np.array([1.1, 1.9, 2.5, 0.7]),
    "ch1/bkg_jesUp": np.array([9.0, 7.5, 3.5, 1.0]),
    "ch1/bkg_jesDown": np.array([11.5, 6.5, 2.6, 0.7]),
    "ch1/bkg_tailUp": np.array([10.0, 7.0, 3.3, 1.2]),
    "ch1/bkg_tailDown": np.array([10.0, 7.0, 2.8, 0.5]),
}
FILES = {"shapes.root": TEMPLATES}


def read(text, **options):
    return mx.io.from_datacard(text, **({"histograms": FILES} | options))


def values(params, **at):
    return {name: jnp.asarray(at.get(name, np.asarray(p.value, float))) for name, p in params.items()}


def lines(*more, of=COUNTING):
    return of + "\n".join(more) + "\n"


def asymmetric(theta, down, up):
    """`ProcessNormalization::logKappaForX` of Combine."""
    high, low = math.log(up), -math.log(down)
    if abs(theta) >= 0.5:
        return math.exp(theta * (high if theta >= 0 else low))
    t = 2 * theta
    return math.exp(theta * (0.5 * (high + low) + 0.125 * t * (t * t * (3 * t * t - 10) + 15) * 0.5 * (high - low)))


def step(x, region=1.0):
    if abs(x) >= region:
        return math.copysign(1.0, x)
    t = x / region
    return 0.125 * t * (t * t * (3 * t * t - 10) + 15)


def fractions(name, at, region=1.0):
    """The shape of a process: templates of unit sum, moved, cropped and normalised (`FastVerticalInterpHistPdf2`)."""
    contents = lambda key: np.asarray(TEMPLATES[key][0] if isinstance(TEMPLATES[key], tuple) else TEMPLATES[key])  # noqa: E731
    unit = lambda key: contents(key) / np.sum(contents(key))  # noqa: E731
    nominal = unit(f"ch1/{name}")
    out = nominal.copy()
    for systematic, x in at.items():
        up, down = (unit(f"ch1/{name}_{systematic}{side}") - nominal for side in ("Up", "Down"))
        out += 0.5 * x * ((up - down) + (up + down) * step(x, region))
    out = np.maximum(out, 1e-9)
    return out / np.sum(out)


def total(name):
    return float(np.sum(TEMPLATES[name][0] if isinstance(TEMPLATES[name], tuple) else TEMPLATES[name]))


class TestCounting:
    nll, params, data = read(COUNTING)

    def test_content(self):
        assert list(self.params) == ["lumi", "xs_ppX", "WW_norm", "tt_norm", "fake", "r"]
        assert self.nll.poi == "r"
        assert self.nll.samples == {"bin1": ("ppX", "WW", "tt", "fake")}
        assert float(self.params["r"].lower) == 0
        assert float(self.params["WW_norm"].value) == 4
        assert float(self.data["aux"]["WW_norm"]) == 4
        assert "1 channels, 4 processes, 1 bins, poi='r'" in repr(self.nll)

    @pytest.mark.parametrize("theta", [-2.0, -0.5, -0.3, 0.0, 0.2, 0.5, 1.7])
    def test_value(self, theta):
        at = values(self.params, r=1.3, lumi=0.4, xs_ppX=-0.7, WW_norm=3.1, tt_norm=theta, fake=theta)
        mu = 1.3 * 1.47 * 1.11**0.4 * 1.2**-0.7 + 0.16 * 3.1 + 0.7 * 1.3**theta
        mu += 0.22 * 1.11**0.4 * asymmetric(theta, 0.9, 1.5)
        wanted = -stats.poisson.logpmf(5, mu) - stats.poisson.logpmf(4, 3.1)
        wanted -= sum(stats.norm.logpdf(x) for x in (0.4, -0.7, theta, theta))
        np.testing.assert_allclose(self.nll(at, self.data), wanted, rtol=1e-13)
        np.testing.assert_allclose(sum(map(np.sum, self.nll.expected(at)["bin1"].values())), mu, rtol=1e-13)

    def test_fit(self):
        """Against SciPy's minimum of the same function."""
        result = mx.fit(self.nll, self.params, self.data)
        assert bool(result.valid)
        names = [str(name) for name in result.names]
        value = jax.jit(lambda x: self.nll(dict(zip(names, x, strict=True)), self.data))
        found = optimize.minimize(lambda x: float(value(x)), np.asarray(result.values) + 0.01, tol=1e-10)
        np.testing.assert_allclose(result.values, found.x, atol=1e-4)
        np.testing.assert_allclose(self.nll(result.params, self.data), found.fun, atol=1e-8)

    def test_limit_without_events(self):
        """No systematics, no events, no background to speak of: CLs excludes s = -log(0.05)."""
        text = COUNTING.split("lumi")[0].replace("observation 5", "observation 0")
        nll, params, data = read(text)
        limit = mx.upper_limit(nll, params, data, "r", calculator=mx.Toys(4000, jax.random.key(0)))
        assert abs(float(limit.observed) * 1.47 - 2.996) < 3 * float(limit.observed_error) * 1.47 + 0.02

    def test_toys_and_asimov(self):
        result = mx.fit(self.nll, self.params, self.data)
        asimov = mx.asimov(self.nll, result.params, data=self.data)
        np.testing.assert_allclose(mx.fit(self.nll, self.params, asimov).values, result.values, atol=1e-5)
        fits = mx.fit_toys(self.nll, result.params, mx.Toys(64, jax.random.key(1)), data=self.data)
        assert int(np.sum(fits.valid)) == 64


CONSTRUCTS = {
    "lnU": ("flat lnU - 1.4 - -", {"flat": 0.3}, {"WW": 1.4**0.3}),
    "lnU down/up": ("flat lnU - 0.8/1.1 - -", {"flat": 0.3}, {"WW": asymmetric(0.3, 0.8, 1.1)}),
    "trG": ("cut trG - 0.2 -0.3 -", {"cut": 0.7}, {"WW": 1.14, "tt": 0.79}),
    "unif": ("u unif -2 3 - 0.1 - -", {"u": 0.7}, {"WW": 1.07}),
    "rateParam": ("k rateParam bin1 WW 1.5", {"k": 2.0}, {"WW": 2.0}),
    "rateParam with a range": ("k rateParam bin1 WW 1.5 [0,4]", {"k": 2.0}, {"WW": 2.0}),
    "rateParam of many": ("k rateParam bin* * 1", {"k": 2.0}, dict.fromkeys(("ppX", "WW", "tt", "fake"), 2.0)),
    "formula": ("k rateParam bin1 WW 1.5\nf rateParam bin1 tt (1+@0*@0) k", {"k": 2.0}, {"WW": 2.0, "tt": 5.0}),
    "formula of a formula": (
        "g rateParam bin1 tt @0+1 f\nf rateParam bin1 fake TMath::Exp(@0)*(@0>1?2:3) k\nk extArg 0.5 [0,2]",
        {"k": 1.5},
        {"tt": 2 * math.exp(1.5) + 1, "fake": 2 * math.exp(1.5)},
    ),
    "formula of MH": ("f rateParam bin1 tt @0/125+@1 MH,lumi", {"lumi": 0.0}, {"tt": 1.0}),
    "extArg that is constant": ("c extArg 2 [const]\nf rateParam bin1 tt @0 c", {}, {"tt": 2.0}),
    "param": ("p param 1.0 0.1\nf rateParam bin1 tt @0 p", {"p": 1.2}, {"tt": 1.2}),
    "numbers as names": ("5 lnN - 1.4 - -", {"theta5": 0.3}, {"WW": 1.4**0.3}),
    "a comment": ("c lnN - 1.4 - - # why", {"c": 0.3}, {"WW": 1.4**0.3}),
    "shape? without histograms": ("q shape? - 1.4 - -", {"q": 0.3}, {"WW": 1.4**0.3}),
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_constructs(name):
    """What a line does to the yields at a value of its parameter."""
    more, at, factors = CONSTRUCTS[name]
    nll, params, data = read(lines(*more.split("\n")), mass=125)
    point = values(params, **at)
    yields = nll.expected(point)["bin1"]
    base = {"ppX": 1.47, "WW": 0.64, "tt": 0.22, "fake": 0.7}
    for process, rate in base.items():
        np.testing.assert_allclose(yields[process], rate * factors.get(process, 1.0), rtol=1e-13)
    assert np.isfinite(float(nll(point, data)))


class TestParameters:
    def test_starts_and_bounds(self):
        more = ("u unif -2 3 - 0.1 - -", "k rateParam bin1 WW 1.5 [0,4]", "flat lnU - 1.4 - -", "c extArg 2 [const]",
                "cut trG - 0.2 -0.5 -", "p param 2.0 0.5 [1,4]", "f rateParam bin1 tt @0*@1 p,c", "fr lnN - 1.1 - -",
                "nuisance edit freeze fr")  # fmt: skip
        _, params, data = read(lines(*more))
        told = {name: (float(p.value), p.lower, p.upper, bool(np.all(p.fixed))) for name, p in params.items()}
        assert told["u"] == (0.5, -2.0, 3.0, False)
        assert told["k"] == (1.5, 0.0, 4.0, False)
        assert told["flat"] == (0.0, -1.0, 1.0, False)
        assert told["c"] == (2.0, None, None, True)
        assert told["cut"] == (0.0, -5.0, 2.0, False)
        assert told["p"] == (2.0, 1.0, 4.0, False)
        assert told["fr"][3]
        assert set(data["aux"]) == {"lumi", "xs_ppX", "WW_norm", "tt_norm", "fake", "cut", "p", "fr"}

    def test_two_sided(self):
        """A bifurcated normal: the lower width where the parameter is below its measurement."""
        nll, params, data = read(lines("p param 1.0 -0.1/+0.4", "f rateParam bin1 tt @0 p"))
        base, _, base_data = read(lines("p extArg 1.0 [0,2]", "f rateParam bin1 tt @0 p"))
        for p, width in ((0.8, 0.1), (1.3, 0.4)):
            at = values(params, p=p)
            difference = float(nll(at, data) - base(at, base_data))
            wanted = 0.5 * ((p - 1) / width) ** 2 + math.log(math.sqrt(2 * math.pi) * 0.25)
            np.testing.assert_allclose(difference, wanted, rtol=1e-12)
        drawn = mx.sample(nll, {n: params[n] for n in params}, jax.random.key(0), 20_000)["aux"]["p"] - 1.0
        # with the parameter at 1, what is measured above it is the lower side
        np.testing.assert_allclose(np.mean(drawn > 0), 0.2, atol=0.01)
        np.testing.assert_allclose(np.sqrt(np.mean(drawn[drawn > 0] ** 2)), 0.1, rtol=0.05)
        np.testing.assert_allclose(np.sqrt(np.mean(drawn[drawn < 0] ** 2)), 0.4, rtol=0.05)

    def test_groups(self):
        nll, _, _ = read(lines("theory group = xs_ppX tt_norm", "theory group += fake"))
        assert nll.groups == {"theory": ("xs_ppX", "tt_norm", "fake")}


EDITS = {
    "add": ("add tt bin1 new lnN 1.3", {"new": 0.5}, {"tt": 1.3**0.5}),
    "add to all": ("add * * new lnN 0.9/1.2", {"new": 1.0}, dict.fromkeys(("ppX", "WW", "tt", "fake"), 1.2)),
    "add in quadrature": (
        "add fake bin1 fake lnN 1.4 addq",
        {"fake": 1.0},
        {"fake": math.exp(math.hypot(math.log(1.3), math.log(1.4)))},
    ),
    "overwrite": ("add fake bin1 fake lnN 1.4 overwrite", {"fake": 1.0}, {"fake": 1.4}),
    "drop": ("drop tt .* lumi", {"lumi": 1.0}, {"ppX": 1.11}),
    "rename": ("rename fake other", {"other": 1.0}, {"fake": 1.3}),
    "rename one": ("rename tt bin1 lumi lumi_tt", {"lumi": 1.0, "lumi_tt": 2.0}, {"ppX": 1.11, "tt": 1.11**2}),
    "changepdf": ("changepdf fake trG", {"fake": 2.0}, {"fake": 1 + 2 * math.log(1.3)}),
    "merge": (
        "merge ppX bin1 lumi xs_ppX",
        {"lumi": 1.0},
        {"ppX": math.exp(math.hypot(math.log(1.11), math.log(1.2))), "tt": 1.11},
    ),
    "split": ("split fake bin1 fake f1 f2 1.1 1.2", {"f1": 1.0, "f2": 1.0}, {"fake": 1.1 * 1.2}),
    "flip": ("flip fake bin1 fake p2n", {"fake": 1.0}, {"fake": 1 / 1.3}),
    "nothing found": ("drop tt bin1 nothing ifexists", {"fake": 1.0}, {"fake": 1.3}),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_edits(name):
    command, at, factors = EDITS[name]
    nll, params, _ = read(lines(f"nuisance edit {command}"))
    yields = nll.expected(values(params, **at))["bin1"]
    for process, rate in {"ppX": 1.47, "WW": 0.64, "tt": 0.22, "fake": 0.7}.items():
        np.testing.assert_allclose(yields[process], rate * factors.get(process, 1.0), rtol=1e-12)


class TestShapes:
    nll, params, data = read(SHAPES)

    @pytest.mark.parametrize(("jes", "tail"), [(0.0, 0.0), (0.6, -0.4), (-1.7, 0.3), (2.5, 3.0)])
    def test_expected(self, jes, tail):
        """The shape and its normalisation: templates of unit sum times a log-normal of their sums."""
        at = values(self.params, r=1.2, lumi=0.5, jes=jes, tail=tail)
        found = self.nll.expected(at)["ch1"]
        common = 1.02**0.5
        ratio = lambda name, side: total(f"ch1/{name}_{side}") / total(f"ch1/{name.split('_')[0]}")  # noqa: E731
        sig = 1.2 * 7.0 * common * asymmetric(jes, ratio("sig", "jesDown"), ratio("sig", "jesUp"))
        np.testing.assert_allclose(found["sig"], sig * fractions("sig", {"jes": jes}), rtol=1e-12)
        bkg = 20.8 * common
        bkg *= asymmetric(jes, ratio("bkg", "jesDown") ** 0.5, ratio("bkg", "jesUp") ** 0.5)
        bkg *= asymmetric(tail, ratio("bkg", "tailDown"), ratio("bkg", "tailUp"))
        # the scale of jes is 0.5, and the region of all smooth steps of this process the least of their scales
        wanted = fractions("bkg", {"jes": 0.5 * jes, "tail": tail}, 0.5)
        np.testing.assert_allclose(found["bkg"], bkg * wanted, rtol=1e-12)
        other = np.array([2.0, 1.0, 0.5, 3.5e-9]) * common
        np.testing.assert_allclose(found["other"], other, rtol=1e-7)

    def test_data(self):
        np.testing.assert_array_equal(self.data["main"]["ch1"], TEMPLATES["ch1/data_obs"])
        result = mx.fit(self.nll, self.params, self.data)
        assert bool(result.valid)
        assert bool(mx.goodness_of_fit(self.nll, result, self.data).chi2 > 0)

    def test_in_logs(self):
        """shapeN: the logs of the bins move, and the result is normalised."""
        nll, params, _ = read(SHAPES.replace("shape  1    0.5  -", "shapeN  1   -  -").replace("tail ", "#"))
        found = nll.expected(values(params, jes=0.6))["ch1"]["sig"]
        nominal, up, down = (
            np.asarray(x) / np.sum(x)
            for x in (TEMPLATES["ch1/sig"][0], TEMPLATES["ch1/sig_jesUp"], TEMPLATES["ch1/sig_jesDown"])
        )
        high, low = np.log(up / nominal), np.log(down / nominal)
        wanted = nominal * np.exp(0.3 * ((high - low) + (high + low) * step(0.6)))
        np.testing.assert_allclose(found / np.sum(found), wanted / np.sum(wanted), rtol=1e-12)

    def test_question_mark(self):
        """With histograms for some processes a shape, for the others a log-normal."""
        nll, params, _ = read(SHAPES.replace("tail     shape  -    1    -", "tail     shape? -   1   1.3"))
        found = nll.expected(values(params, tail=0.5))["ch1"]
        np.testing.assert_allclose(found["other"][:3], np.array([2.0, 1.0, 0.5]) * 1.3**0.5, rtol=1e-8)
        np.testing.assert_allclose(
            found["bkg"] / np.sum(found["bkg"]), fractions("bkg", {"tail": 0.5}, 0.5), rtol=1e-12
        )

    def test_renamed(self):
        nll, params, _ = read(SHAPES + "nuisance edit rename bkg ch1 jes other_jes\n")
        found = nll.expected(values(params, other_jes=1.0, jes=0.0))["ch1"]["bkg"]
        np.testing.assert_allclose(found / np.sum(found), fractions("bkg", {"jes": 0.5}, 0.5), rtol=1e-12)

    def test_words(self):
        text = SHAPES.replace("shapes.root $CHANNEL/$PROCESS ", "$ERA.root $CHANNEL/$PROCESS$MASS ")
        text = "\n".join(line for line in text.splitlines() if "shape " not in line)
        tables = {f"{key}125": value for key, value in TEMPLATES.items()}
        nll, params, data = read(text, mass=125.0, keywords={"ERA": "run2"}, histograms={"run2.root": tables})
        assert float(nll(values(params), data)) > 0
        with pytest.raises(ValueError, match=r"nothing stands for \$ERA"):
            read(text, mass=125)

    def test_of_root_files(self, tmp_path):
        """The same numbers from a file, with its errors."""
        uproot, hist = pytest.importorskip("uproot"), pytest.importorskip("hist")
        with uproot.recreate(tmp_path / "shapes.root") as file:
            for name, content in TEMPLATES.items():
                contents, errors = content if isinstance(content, tuple) else (content, np.sqrt(content))
                histogram = hist.Hist.new.Reg(4, 0, 4).Weight()
                histogram.view().value, histogram.view().variance = contents, errors**2
                file[name] = histogram
        (tmp_path / "card.txt").write_text(SHAPES + "* autoMCStats 10\n")
        found = mx.io.from_datacard(tmp_path / "card.txt")
        wanted = read(SHAPES + "* autoMCStats 10\n")
        at = values(wanted[1], r=0.7, jes=0.3)
        np.testing.assert_allclose(found[0](at, found[2]), wanted[0](at, wanted[2]), rtol=1e-12)
        (tmp_path / "shapes.root").write_bytes((tmp_path / "shapes.root").read_bytes()[:200])
        with pytest.raises(ValueError, match=r"card\.txt, line 4: .*shapes\.root cannot be read"):
            mx.io.from_datacard(tmp_path / "card.txt")


class TestMcStats:
    """autoMCStats, against the likelihood with all parameters, minimised by SciPy."""

    text = SHAPES + "* autoMCStats 3\n"

    def reference(self, at, x, single):
        """Minus the log of the likelihood, where `x` are the parameters of whole bins, `single` those of others."""
        nominal = {name: np.asarray(TEMPLATES[f"ch1/{name}"][0], float) for name in ("sig", "bkg", "other")}
        errors = {name: TEMPLATES[f"ch1/{name}"][1] for name in nominal}
        yields = {"sig": at["r"] * 1.02 ** at["lumi"], "bkg": 1.02 ** at["lumi"], "other": 1.02 ** at["lumi"]}
        mu = sum(yields[name] * np.maximum(nominal[name], 1e-9) for name in nominal)
        spread = np.sqrt(sum((yields[name] * errors[name]) ** 2 for name in nominal))
        mu[:3] += spread[:3] * x
        counts = {"sig": 25.0, "bkg": 4.0}  # of the last bin, (content / error)²
        value = 0.5 * np.sum(np.square(x))
        for name, theta in single.items():
            if name == "sig":
                mu[3] += yields[name] * theta * errors[name][3]  # more events than the threshold
                value += 0.5 * theta**2
            else:
                mu[3] += yields[name] * nominal[name][3] * (theta / counts[name] - 1)
                value -= stats.poisson.logpmf(counts[name], theta)
        return value - np.sum(stats.poisson.logpmf(TEMPLATES["ch1/data_obs"], mu)) + 0.5 * at["lumi"] ** 2

    @pytest.mark.parametrize("r", [0.3, 1.0, 2.5])
    def test_value(self, r):
        """Differences of the value at the minimum of the parameters of whole bins."""
        text = "\n".join(line for line in SHAPES.splitlines() if " shape " not in line) + "\n* autoMCStats 5\n"
        nll, params, data = read(text)
        assert [n for n in params if n.startswith("prop")] == ["prop_binch1_bin3_sig", "prop_binch1_bin3_bkg"]

        def ours(r, lumi, sig, bkg):
            at = values(params, r=r, lumi=lumi, prop_binch1_bin3_sig=sig, prop_binch1_bin3_bkg=bkg)
            return float(nll(at, data))

        def wanted(r, lumi, sig, bkg):
            single = {"sig": sig, "bkg": bkg}
            at = {"r": r, "lumi": lumi}
            found = optimize.minimize(lambda x: self.reference(at, x, single), np.zeros(3), tol=1e-12)
            return found.fun

        origin = (1.0, 0.0, 0.0, 4.0)
        for point in ((r, 0.4, 0.5, 3.0), (r, -1.0, -0.3, 6.0)):
            np.testing.assert_allclose(ours(*point) - ours(*origin), wanted(*point) - wanted(*origin), atol=1e-7)

    def test_both_ways(self):
        """With parameters of bins and without: the same minimum, errors and pulls."""
        profiled, explicit = (read(self.text, mc_stats=how) for how in ("profiled", "parameters"))
        assert "prop_binch1" in explicit[1]
        assert "prop_binch1" not in profiled[1]
        results = [mx.fit(*problem) for problem in (profiled, explicit)]
        assert all(bool(result.valid) for result in results)
        for name in ("r", "lumi", "jes", "tail"):
            np.testing.assert_allclose(results[0][name].value, results[1][name].value, atol=2e-5)
            np.testing.assert_allclose(results[0][name].error, results[1][name].error, rtol=2e-4)
        np.testing.assert_allclose(results[0].nll, results[1].nll, atol=1e-7)
        pulls = [p[0].bin_pulls(r.params, p[2])["ch1"] for p, r in zip((profiled, explicit), results, strict=True)]
        np.testing.assert_allclose(*pulls, atol=1e-4)
        assert explicit[0].groups["autoMCStats"] == ("prop_binch1",)

    def test_toys_at_the_minimum(self):
        """Toys and Asimov data have the parameters of bins where the data have them."""
        nll, params, data = read(self.text)
        result = mx.fit(nll, params, data)
        pulls = nll.bin_pulls(result.params, data)["ch1"]
        asimov = mx.asimov(nll, result.params, data=data)
        np.testing.assert_allclose(asimov["aux"]["prop_binch1"], pulls, atol=1e-12)
        again = mx.fit(nll, params, asimov)
        np.testing.assert_allclose(again.values, result.values, atol=2e-4)
        toys = jax.vmap(lambda key: nll.sample(result.params, key, data))(jax.random.split(jax.random.key(2), 4000))
        whole = np.asarray(nll.templates.with_bin_errors["ch1"])
        means = np.mean(np.asarray(toys["aux"]["prop_binch1"]), axis=0)
        np.testing.assert_allclose(means[whole], np.asarray(pulls)[whole], atol=0.06)
        np.testing.assert_allclose(np.mean(toys["main"]["ch1"], axis=0), asimov["main"]["ch1"], rtol=0.03)

    def test_derivatives(self):
        nll, params, data = read(self.text)
        names = sorted(params)
        function = lambda x: nll(dict(zip(names, x, strict=True)), data)  # noqa: E731
        x = np.array([float(params[name].value) for name in names]) + 0.1
        slope = jax.grad(function)(x)
        for i in range(x.size):
            h = np.zeros(x.size)
            h[i] = 1e-5
            np.testing.assert_allclose(slope[i], (function(x + h) - function(x - h)) / 2e-5, rtol=1e-6, atol=1e-7)

    def test_no_counts(self):
        """An empty bin: the expectation goes down to zero, not below."""
        tables = TEMPLATES | {"ch1/data_obs": np.zeros(4)}
        nll, params, data = read(self.text, histograms={"shapes.root": tables})
        result = mx.fit(nll, params, data)
        assert np.all(np.isfinite(result.values))
        assert np.all(np.asarray(nll.prediction(result.params, data)["main"]["ch1"]) >= 0)

    def test_mode_2(self):
        """Variations of the content bin by bin, with no log-normal."""
        nll, params, _ = read(SHAPES + "* autoMCStats -1 0 2\n")
        found = nll.expected(values(params, jes=0.6, tail=0.0))["ch1"]["sig"]
        nominal, up, down = TEMPLATES["ch1/sig"][0], TEMPLATES["ch1/sig_jesUp"], TEMPLATES["ch1/sig_jesDown"]
        wanted = nominal + 0.3 * ((up - down) + (up + down - 2 * nominal) * step(0.6))
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


class TestPhysics:
    def test_several(self):
        scale = {"*/ppX": "kV**2 * kF", "bin1/WW": "r_WW[2,0,5]", "*/tt": 0, "*/fake": lambda p: 1 + p["kV"]}
        nll, params, data = read(COUNTING, scale=scale)
        assert set(nll.pois) == {"kV", "kF", "r_WW"}
        assert (float(params["r_WW"].value), float(params["r_WW"].upper)) == (2.0, 5.0)
        yields = nll.expected(values(params, kV=1.5, kF=0.8, r_WW=3.0))["bin1"]
        np.testing.assert_allclose(yields["ppX"], 1.47 * 1.5**2 * 0.8)
        np.testing.assert_allclose(yields["WW"], 0.64 * 3)
        np.testing.assert_allclose(yields["fake"], 0.7 * 2.5)
        assert "tt" not in yields
        slope = jax.grad(lambda k: nll(values(params, kV=k), data))(1.2)
        assert np.isfinite(slope)

    def test_another_range(self):
        nll, params, data = read(COUNTING, pois={"r": mx.Parameter(0.5, lower=-5.0, upper=20.0)})
        assert float(params["r"].lower) == -5
        assert nll.poi == "r"
        assert bool(mx.fit(nll, params, data).valid)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"scale": {"nowhere/ppX": "r"}}, "matches no channel/process"),
            ({"scale": {"ppX": "r"}}, "patterns 'channel/process'"),
            ({"scale": {"*/ppX": "r[1,0]"}}, r"r\[start,lower,upper\]"),
            ({"scale": {"*/ppX": "r +"}}, "number, a name or a bracket"),
            ({"scale": {"*/ppX": "lumi"}}, "no parameter of interest"),
            ({"pois": {"a": 1.0, "b": 1.0}}, "scale says what"),
            ({"pois": {"lumi": 1.0}}, "is a nuisance parameter"),
            ({"mc_stats": "no"}, "mc_stats is"),
        ],
    )
    def test_refused(self, options, match):
        with pytest.raises(ValueError, match=match):
            read(COUNTING, **options)


COMBINED = """\
Combination of a.txt b.txt
imax 2 number of bins
jmax 2 number of processes minus 1
kmax 2 number of nuisance parameters
----------------------------------------------------------------------
shapes *          a  shapes.root ch1/$PROCESS ch1/$PROCESS_$SYSTEMATIC
shapes data_obs   a  shapes.root ch1/data_obs
shapes *          b  FAKE
----------------------------------------------------------------------
bin          a      b
observation  33     7.0
----------------------------------------------------------------------
bin          a      a      b      b
process      sig    bkg    sig    zero
process      0      1      0      2
rate         7.0    20.8   1.5    4.2
----------------------------------------------------------------------
lumi  lnN    1.02   1.02   1.02   1.02
jes   shape  1      1      -      -
"""


class TestChannels:
    def test_combined(self):
        nll, params, data = read(COMBINED)
        assert nll.samples == {"b": ("sig", "zero"), "a": ("sig", "bkg")}
        found = nll.expected(values(params, r=2.0))
        np.testing.assert_allclose(found["b"]["sig"], [3.0])
        np.testing.assert_allclose(found["a"]["sig"], 2 * TEMPLATES["ch1/sig"][0], rtol=1e-7)
        assert bool(mx.fit(nll, params, data).valid)

    def test_masked(self):
        nll, params, data = read(COMBINED)
        only = nll.masked("b")
        at = values(params, r=2.0, lumi=0.3)
        mu = 1.02**0.3 * (2 * 1.5 + 4.2)
        np.testing.assert_allclose(float(nll(at, data) - only(at, data)), -stats.poisson.logpmf(7, mu), rtol=1e-12)
        assert only.ndata(data) == nll.ndata(data) - 1
        assert bool(mx.fit(only, params, data).valid)
        with pytest.raises(ValueError, match="matches no channel"):
            nll.masked("c")
        with pytest.raises(ValueError, match="all channels are masked"):
            nll.masked("*")

    def test_zero_processes(self):
        text = COUNTING.replace("rate     1.47  0.64  0.22", "rate     1.47  0.64  0")
        nll, params, _ = read(text)
        assert nll.samples["bin1"] == ("ppX", "WW", "fake")
        assert "tt_norm" not in params

    def test_negative_rate(self):
        """Interference: a process that takes events away."""
        nll, params, data = read(COUNTING.replace("0.22", "-0.22"))
        assert float(nll.expected(values(params))["bin1"]["tt"][0]) == -0.22
        assert bool(mx.fit(nll, params, data).valid)


class TestTransformations:
    def test_jit_vmap_grad(self):
        nll, params, data = read(SHAPES + "* autoMCStats 3\n")
        counts = jnp.stack([data["main"]["ch1"], data["main"]["ch1"] + 1])
        with_counts = lambda n: data | {"main": {"ch1": n}}  # noqa: E731
        fits = jax.jit(jax.vmap(lambda n: mx.fit(nll, params, with_counts(n))))(counts)
        assert bool(np.all(fits.valid))
        np.testing.assert_allclose(fits.values[0], mx.fit(nll, params, data).values, atol=1e-5)
        slope = jax.grad(lambda n: mx.fit(nll, params, with_counts(n))["r"].value)(counts[0])
        ends = [mx.fit(nll, params, with_counts(counts[0].at[2].add(h)))["r"].value for h in (-0.01, 0.01)]
        np.testing.assert_allclose(slope[2], (ends[1] - ends[0]) / 0.02, rtol=1e-3)

    def test_float32(self):
        nll, params, data = read(SHAPES)
        at = {name: jnp.asarray(value, jnp.float32) for name, value in values(params, r=1.2, jes=0.3).items()}
        data32 = jax.tree.map(lambda a: a.astype(jnp.float32), data)
        wanted = nll.varying(values(params, r=1.2, jes=0.3), data)
        np.testing.assert_allclose(nll.varying(at, data32), wanted, rtol=1e-4)

    def test_everything_that_uses_it(self):
        nll, params, data = read(SHAPES)
        result = mx.fit(nll, params, data)
        assert bool(mx.minos(nll, result, data, "r").valid.all())
        assert mx.impacts(nll, result, data, "r").names
        assert float(mx.hypotest(nll, result, data, "r", 2.0).cls) > 0
        assert np.all(np.isfinite(jax.tree.leaves(nll.pulls(result.params, data))[0]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pyhf's own
def test_same_as_pyhf():
    """Log-normals are normsys of code 1 with inverse factors, a rateParam a normfactor: equal differences."""
    pyhf = pytest.importorskip("pyhf")
    text = COUNTING.replace("0.9/1.5", "1.5").replace("WW_norm gmN 4  -     0.16", "WW_norm lnN    -     1.16")
    nll, params, data = read(lines("k rateParam bin1 WW 1", of=text))
    effects = {
        "ppX": {"lumi": 1.11, "xs_ppX": 1.2},
        "WW": {"WW_norm": 1.16},
        "tt": {"lumi": 1.11, "tt_norm": 1.5},
        "fake": {"fake": 1.3},
    }
    factors = {"ppX": "r", "WW": "k"}
    samples = []
    for (name, rate), kappas in zip(
        {"ppX": 1.47, "WW": 0.64, "tt": 0.22, "fake": 0.7}.items(), effects.values(), strict=True
    ):
        modifiers = [{"type": "normsys", "name": n, "data": {"hi": k, "lo": 1 / k}} for n, k in kappas.items()]
        if name in factors:
            modifiers.append({"type": "normfactor", "name": factors[name], "data": None})
        samples.append({"name": name, "data": [rate], "modifiers": modifiers})
    spec = {
        "channels": [{"name": "bin1", "samples": samples}],
        "observations": [{"name": "bin1", "data": [5.0]}],
        "measurements": [{"name": "m", "config": {"poi": "r", "parameters": []}}],
        "version": "1.0.0",
    }
    model = pyhf.Workspace(spec).model(modifier_settings={"normsys": {"interpcode": "code1"}})
    theirs = lambda at: -float(model.logpdf([at[n] for n in model.config.par_order], [5.0, *[0.0] * 5])[0])  # noqa: E731
    rng = np.random.default_rng(0)
    points = [{name: abs(rng.normal()) for name in params} for _ in range(8)]
    ours = [float(nll(values(params, **at), data)) for at in points]
    wanted = [theirs(at) for at in points]
    np.testing.assert_allclose(np.diff(ours), np.diff(wanted), atol=1e-10)


FAULTS = {
    "no rate": (lambda t: t.split("rate")[0], "no line 'rate'"),
    "a number": (lambda t: t.replace("0.64", "o.64"), r"line 11: the rate of WW must be a number, got 'o\.64'"),
    "infinite": (lambda t: t.replace("0.64", "inf"), "line 11: .*must be a number"),
    "a column": (lambda t: t.replace("0.22  0.7", "0.22"), "line 11: there are 3 rates and 4 processes"),
    "an effect": (lambda t: t.replace("1.20  -     -        -", "1.20  -"), "line 14: xs_ppX has 2 effects"),
    "negative": (lambda t: t.replace("1.20 ", "-1.2 "), "line 14: an effect of xs_ppX cannot be negative"),
    "kind": (lambda t: t.replace("xs_ppX  lnN", "xs_ppX  logN"), "line 14: 'logN' is no kind of a systematic"),
    "gmN": (lambda t: t.replace("gmN 4", "gmN 8"), "line 15: WW_norm has 8 events times 0.16, which is not the rate"),
    "gmN of half": (lambda t: t.replace("gmN 4", "gmN 4.5"), "line 15: the count of WW_norm must be a whole number"),
    "imax": (lambda t: t.replace("imax 1", "imax 3"), "line 1: imax declares 3 channels, and there are 1"),
    "jmax": (lambda t: t.replace("jmax 3", "jmax 2"), "line 2: jmax declares 2"),
    "kmax": (lambda t: t.replace("kmax *", "kmax 9"), "line 3: kmax declares 9"),
    "spelling": (lambda t: t.replace("observation 5", "obsrvation 5"), "line 6: 'obsrvation' means nothing here"),
    "no signal": (lambda t: t.replace("process  0 ", "process  5 "), "line 10: no process is a signal"),
    "twice": (lambda t: t.replace("process  ppX   WW", "process  ppX   ppX"), "line 10"),
    "no background": (lambda t: t.replace("0.64  0.22  0.7", "0     0     0"), "line 11: .* no background"),
    "a count": (lambda t: t.replace("observation 5", "observation -3"), "line 6: a count cannot be negative"),
    "three": (lambda t: t.replace("0.9/1.5", "0.9/1/1.5"), "line 16: .* two positive numbers"),
    "a group": (lambda t: t + "g group = lumi nothing\n", "line 18: the group g names 'nothing'"),
    "a group again": (lambda t: t + "g group = lumi\ng group = fake\n", "line 19: the group g is at line 18 already"),
    "an edit": (lambda t: t + "nuisance edit drop tt bin1 none\n", "line 18: .* finds nothing"),
    "an unknown edit": (lambda t: t + "nuisance edit remove tt\n", "line 18: nuisance edit knows"),
    "rateParam": (lambda t: t + "k rateParam bin1 zz 1\n", "line 18: there is no process 'zz'"),
    "formula": (lambda t: t + "k rateParam bin1 tt @0+@1 lumi\n", "line 18: the formula of k: .* has @1, and 1 arg"),
    "a name": (lambda t: t + "k rateParam bin1 tt @0 zz\n", "k needs zz, which is no parameter"),
    "a circle": (lambda t: t + "k rateParam bin1 tt @0 m\nm rateParam bin1 tt @0 k\n", "which need each other"),
    "a file": (lambda t: t + "k rateParam bin1 tt w.root:w\n", "line 18: k is in a RooWorkspace"),
    "discrete": (lambda t: t + "index discrete\n", "line 18: the kind discrete of index is not supported"),
    "param": (lambda t: t + "p param 1\n", "line 18: p: param takes a mean and a standard deviation"),
    "a range": (lambda t: t + "k rateParam bin1 tt 1 [2,1]\n", r"line 18: the range \[2,1\] is empty"),
    "mc stats": (lambda t: t + "ch9 autoMCStats 10\n", "line 18: there is no channel 'ch9'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name):
    change, match = FAULTS[name]
    assert change(COUNTING) != COUNTING
    with pytest.raises(ValueError, match=match):
        read(change(COUNTING))


FAULTS_OF_SHAPES = {
    "no file": ({}, SHAPES, "line 4: there is no file shapes.root"),
    "no histogram": (
        {"shapes.root": {k: v for k, v in TEMPLATES.items() if k != "ch1/bkg"}}, SHAPES, "line 4: 'ch1/bkg' is not in"
    ),
    "no variation": (
        {"shapes.root": {k: v for k, v in TEMPLATES.items() if k != "ch1/bkg_tailUp"}},
        SHAPES, "line 13: 'ch1/bkg_tailUp' is not in shapes.root",
    ),
    "bins": (
        {"shapes.root": TEMPLATES | {"ch1/bkg_tailUp": np.ones(5)}}, SHAPES, "line 13: tailUp of bkg in ch1 has 5 bins"
    ),
    "bins of a process": (
        {"shapes.root": TEMPLATES | {"ch1/other": np.ones(3)}}, SHAPES, "ch1 have different numbers of bins"
    ),
    "bins of the data": ({"shapes.root": TEMPLATES | {"ch1/data_obs": np.ones(3)}}, SHAPES, "data of ch1 have 3 bins"),
    "no events": ({"shapes.root": TEMPLATES | {"ch1/other": np.zeros(4)}}, SHAPES, "line 4: .* has no events"),
    "not finite": (
        {"shapes.root": TEMPLATES | {"ch1/other": np.array([1, np.nan, 1, 1])}}, SHAPES, "has bins that are no numbers"
    ),
    "rate": (FILES, SHAPES.replace("-1   -1   -1", "-1   30   -1"), "rate of bkg in ch1 is 30, and its histogram has"),
    "observation": (FILES, SHAPES.replace("observation -1", "observation 40"), "observation of ch1 is 40"),
    "workspace": (FILES, SHAPES.replace("$CHANNEL/$PROCESS ", "w:$PROCESS "), "line 4: .* in a RooWorkspace"),
    "no systematic": (FILES, SHAPES.replace(" $CHANNEL/$PROCESS_$SYSTEMATIC", ""), "line 12: .* names no .SYSTEMATIC"),
    "two kinds": (FILES, SHAPES.replace("tail     shape ", "tail     shapeN "), "has shapes of several kinds"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS_OF_SHAPES)
def test_faults_of_shapes(name):
    files, text, match = FAULTS_OF_SHAPES[name]
    with pytest.raises(ValueError, match=match):
        read(text, histograms=files)


def test_no_file():
    with pytest.raises(FileNotFoundError, match=r"there is no file 'nowhere\.txt'"):
        mx.io.from_datacard("nowhere.txt")


@pytest.mark.parametrize(
    "text", [COUNTING, COMBINED, SHAPES + "* autoMCStats 10\n"], ids=["counting", "combined", "shapes"]
)
def test_fuzzed(text):
    """Cut and changed lines are read, or refused with a sentence; nothing else is raised."""
    refused = read_well = 0
    for changed in broken_lines(text, 300):
        try:
            read(changed)
        except (ValueError, FileNotFoundError) as error:
            refused += 10 < len(str(error)) < 1000
            continue
        read_well += 1
    assert refused + read_well == 300
    assert refused > 60


def test_on_the_command_line(tmp_path):
    path = tmp_path / "card.txt"
    path.write_text(lines("f rateParam bin1 tt @0/125 MH"))
    command_line.run("fit", path, "--mass", 125, "--json", tmp_path / "fit.json")
    written = json.loads((tmp_path / "fit.json").read_text())
    nll, params, data = read(path.read_text(), mass=125)
    result = mx.fit(nll, params, data)
    np.testing.assert_allclose(written["parameters"]["r"]["value"], result["r"].value, atol=1e-6)
    assert "Upper limit on r" in command_line.run("limit", path, "--mass", 125).stdout
    assert "--patch is not for datacards" in " ".join(
        command_line.run("fit", path, "--patch", path, code=2).stderr.split()
    )
    path.write_text(COUNTING.replace("0.64", "o.64"))
    assert "line 11: the rate of WW must be a number" in command_line.run("fit", path, code=1).stderr
