"""The command line: tables, JSON, pictures, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import hs3
import migrax as mx
import workspaces
from command_line import run
from migrax._cli.problem import read

HIFA = str(hs3.FOLDER / "pairs" / "simplemodel_uncorrelated-background_hifa.json")
HS3 = HIFA.replace("_hifa", "_hs3")


@pytest.mark.parametrize("path", [HIFA, HS3], ids=["pyhf", "hs3"])
def test_fit(path, tmp_path):
    done = run("fit", path, "--json", tmp_path / "fit.json", "--save", tmp_path / "fitted.json")
    read_it = mx.io.from_pyhf if path == HIFA else mx.io.from_hs3
    result = mx.fit(*read_it(path))
    assert "Valid Minimum" in done.stdout
    found = json.loads((tmp_path / "fit.json").read_text())
    assert found["valid"] is True
    assert tuple(found["parameters"]) == result.names
    np.testing.assert_allclose([p["value"] for p in found["parameters"].values()], result.values, rtol=1e-10)
    np.testing.assert_allclose(found["covariance"]["matrix"], result.covariance.matrix, rtol=1e-8)
    np.testing.assert_allclose(found["nll"], result.nll, rtol=1e-12)
    again = run("fit", tmp_path / "fitted.json", "--fix", "mu=1.0", "--json", "-")
    fixed = json.loads(again.stdout)  # and no table
    assert fixed["fixed"]["mu"] == 1.0
    assert fixed["nll"] > found["nll"]


def test_minos(tmp_path):
    done = run("minos", HIFA, "uncorr_bkguncrt[0]", "--json", tmp_path / "minos.json")
    nll, params, data = mx.io.from_pyhf(HIFA)
    exact = mx.minos(nll, mx.fit(nll, params, data), data, "uncorr_bkguncrt[0]")
    found = json.loads((tmp_path / "minos.json").read_text())["minos"]
    np.testing.assert_allclose(found["uncorr_bkguncrt[0]"]["upper"], exact.upper[0], rtol=1e-6)
    assert "Minos Err+" in done.stdout
    assert "MINOS errors: at a confidence level of 68.27 %, 1 standard deviation\n" in done.stdout
    two = run("minos", HIFA, "uncorr_bkguncrt[0]", "--cl", 2)
    assert "MINOS errors: at a confidence level of 95.45 %, 2 standard deviations" in two.stdout


def test_the_parameter_point_to_start_at(tmp_path):
    """`--save` of a document of HS3 leaves its first point as it is: the fitted one is asked for by name."""
    saved = tmp_path / "fitted.json"
    fitted = json.loads(run("fit", HS3, "--fix", "mu=0.5", "--save", saved, "--json", "-").stdout)
    point = ("--point", "fitted")
    again = json.loads(run("fit", saved, *point, "--json", "-").stdout)
    assert again["fixed"]["mu"] == 0.5  # constant in the point
    assert again["nll"] == pytest.approx(fitted["nll"], rel=1e-12)
    assert "mu" not in json.loads(run("fit", saved, "--json", "-").stdout)["fixed"]
    document = json.loads(saved.read_text())
    (values,) = (p["parameters"] for p in document["parameter_points"] if p["name"] == "fitted")
    started = problem_of(saved, point="fitted").params
    assert {v["name"]: v["value"] for v in values} == {name: float(p.value) for name, p in started.items()}
    assert "--point fitted" in " ".join(run("fit", "--help").stdout.split())


def problem_of(path, *, point):
    return read(path, patch=None, signal=None, analysis=None, point=point, fixed=())


def test_limit(tmp_path):
    done = run("limit", HIFA, "--json", tmp_path / "limit.json", "--plot", tmp_path / "limit.png")
    found = json.loads((tmp_path / "limit.json").read_text())
    np.testing.assert_allclose(found["observed"], 1.01156939, rtol=1e-5)
    np.testing.assert_allclose(found["expected"], [0.55988, 0.75702, 1.06235, 1.50117, 2.05079], rtol=2e-5)
    assert found["poi"] == "mu"
    assert found["observed_error"] is found["expected_error"] is None
    assert "Upper limit on mu at 95 % (CLs)" in done.stdout
    assert (tmp_path / "limit.png").read_bytes().startswith(b"\x89PNG")


def test_a_limit_that_allows_no_signal_is_an_answer(tmp_path):
    """Without CLs a downward fluctuation excludes all: there is nothing wrong with that."""
    nll, params, data = mx.io.from_pyhf(HIFA)
    found = mx.upper_limit(nll, params, data, "mu", cls=False)
    assert int(found.expected_status[0]) == mx.LimitStatus.NONE_ALLOWED
    done = run("limit", HIFA, "--no-cls", "--json", tmp_path / "limit.json")
    assert "Expected -2 sigma │ — (none allowed)" in done.stdout
    assert "None allowed: mu is excluded without a signal already" in done.stdout
    told = json.loads((tmp_path / "limit.json").read_text())
    assert told["valid"] is True
    assert (told["status"], told["expected_status"]) == ("found", ["none allowed"] + ["found"] * 4)
    assert told["expected"][0] is None
    assert told["observed"] == pytest.approx(float(found.observed), rel=1e-9)


NO_FOLDER = "not/there/x.png"
OUTPUTS = {
    "a folder": (["limit", HIFA, "--plot", NO_FOLDER], "there is no folder 'not/there'"),
    "an ending": (["limit", HIFA, "--plot", "x.foo"], "'.foo' is no kind of picture; the endings are"),
    "no ending": (["limit", HIFA, "--plot", "foo"], "'foo' has no ending; the endings are"),
    "a folder for numbers": (["toys", HIFA, "--json", "not/there/x.json"], "there is no folder 'not/there'"),
    "a folder as a file": (["toys", HIFA, "--json", "."], "'.' is a folder"),
    "a folder for the file": (["fit", HIFA, "--save", "not/there/x.json"], "there is no folder 'not/there'"),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_where_output_goes_is_checked_before_the_work(case, monkeypatch):
    monkeypatch.setattr("migrax._cli.problem.read", lambda *_, **__: pytest.fail("work was done"))
    arguments, message = OUTPUTS[case]
    assert message in run(*arguments, code=2).stderr


@pytest.mark.slow
def test_a_picture_that_fails_loses_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("migrax._cli.limit.picture", fails)
    done = run("limit", HIFA, "--json", tmp_path / "l.json", "--plot", tmp_path / "l.png", code=1)
    assert "Upper limit on mu" in done.stdout
    assert json.loads((tmp_path / "l.json").read_text())["valid"] is True
    assert "the disk is full" in done.stderr
    monkeypatch.setattr("migrax._cli.commands.json.dumps", fails)
    done = run("fit", HIFA, "--json", tmp_path / "f.json", "--save", tmp_path / "s.json", code=1)
    assert "Valid Minimum" in done.stdout
    assert json.loads((tmp_path / "f.json").read_text())["valid"] is True


def test_toys(tmp_path):
    done = run("toys", HIFA, "-n", 50, "--json", tmp_path / "toys.json", "--store", tmp_path / "store")
    found = json.loads((tmp_path / "toys.json").read_text())
    assert found["toys"] == 50
    assert found["valid"] == 50
    assert np.shape(found["values"]) == (50, 3)
    assert "Pulls" in done.stdout
    assert "Left out of the pulls, as there is no error at a limit: mu 18 (of 50 valid toys)" in done.stdout
    nll, params, data = mx.io.from_pyhf(HIFA)
    result = mx.fit(nll, params, data)
    drawn = mx.Toys(50, jax.random.key(0))
    study = mx.pull_study(
        mx.fit_toys(nll, result.params, drawn, data=data, covariance=result.covariance), result.params
    )
    for i, name in enumerate(study.names):
        told = found["pulls"][name]
        for field in ("mean", "mean_error", "width", "width_error"):
            assert told[field] == pytest.approx(getattr(study, field)[i], rel=1e-6), (name, field)
        assert told["count"] + told["left_out"] == 50
    assert found["pulls"]["mu"]["left_out"] == 18
    same = run("toys", HIFA, "-n", 50, "--json", "-", "--store", tmp_path / "store")
    assert json.loads(same.stdout) == found


def test_impacts(tmp_path):
    done = run("impacts", HS3, "--top", 1, "--json", tmp_path / "impacts.json")
    nll, params, data = mx.io.from_hs3(HS3)
    exact = mx.impacts(nll, mx.fit(nll, params, data), data, "mu")
    found = json.loads((tmp_path / "impacts.json").read_text())["impacts"]
    assert set(found) == set(exact.names)
    for name, up, linear in zip(exact.names, exact.postfit_up, exact.linear, strict=True):
        np.testing.assert_allclose(found[name]["postfit_up"], up, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found[name]["linear"], linear, rtol=1e-6, atol=1e-9)
    assert sum(name in done.stdout for name in found) == 1
    run("impacts", HS3, "--linear", "--json", tmp_path / "linear.json")
    first_order = json.loads((tmp_path / "linear.json").read_text())["impacts"]
    for name, linear in zip(exact.names, exact.linear, strict=True):
        np.testing.assert_allclose(first_order[name]["postfit_up"], linear, rtol=1e-6, atol=1e-9)


def test_a_patch_of_a_set(tmp_path):
    """As that patch alone; which one must be said."""
    workspace = json.loads(Path(HIFA).read_text())
    operation = {"op": "replace", "path": "/observations/0/data/0", "value": 0.0}
    patches = {
        "metadata": {"name": "set", "description": "d", "references": {}, "digests": {}, "labels": ["m"]},
        "patches": [
            {"metadata": {"name": f"signal_{m}", "values": [m]}, "patch": [operation] * (m == 2)} for m in (1, 2)
        ],
        "version": "1.0.0",
    }
    path, one, every, broken = (tmp_path / f"{name}.json" for name in ("w", "p", "set", "broken"))
    path.write_text(json.dumps(workspace))
    one.write_text(json.dumps([operation]))
    every.write_text(json.dumps(patches))
    broken.write_text(json.dumps({"patches": ["signal_1", {"metadata": 1}, {"metadata": {"name": 1}}]}))
    alone = json.loads(run("fit", path, "--json", "-", "--patch", one).stdout)
    chosen = json.loads(run("fit", path, "--json", "-", "--patch", every, "--signal", "signal_2").stdout)
    assert chosen["nll"] == alone["nll"]
    for options, code, said in (
        (["--patch", every], 2, "is a set of patches, name one by --signal, of 'signal_1', 'signal_2'"),
        (["--patch", every, "--signal", "signal_3"], 2, "there is no patch 'signal_3'; did you mean"),
        (["--patch", one, "--signal", "signal_1"], 2, "is one patch, and no set of them"),
        (["--patch", broken, "--signal", "signal_1"], 2, "there is no patch 'signal_1'"),
        (["--signal", "signal_1"], 2, "which --patch gives"),
    ):
        assert said in " ".join(run("fit", path, *options, code=code).stderr.split())


def test_patch_and_measurement(tmp_path):
    spec = workspaces.SMALL["lumi"][0] | {"measurements": [*workspaces.SMALL["lumi"][0]["measurements"]]}
    spec["measurements"].append({"name": "other", "config": {"poi": "", "parameters": [workspaces.LUMI]}})
    path, patch = tmp_path / "w.json", tmp_path / "p.json"
    path.write_text(json.dumps(spec))
    patch.write_text(json.dumps([{"op": "replace", "path": "/observations/0/data/0", "value": 0.0}]))
    plain, patched = (json.loads(run("fit", path, "--json", "-", *more).stdout) for more in ((), ("--patch", patch)))
    assert patched["nll"] != plain["nll"]
    done = run("limit", path, "--analysis", "other", code=2)
    assert "names no parameter of interest: give --poi" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit"], 2, "Missing argument 'FILE'"),
        (["fit", "not/there.json"], 2, "does not exist"),
        (["fti", HIFA], 2, "No such command 'fti'"),
        (["fit", HIFA, "--fix", "m=1"], 2, "--fix m=1: there is no parameter 'm'; did you mean 'mu'?"),
        (["fit", HIFA, "--fix", "m"], 2, "--fix m: there is no parameter 'm'; did you mean 'mu'?"),
        (["fit", HIFA, "--fix", "mu=abc"], 2, "--fix mu=abc: 'abc' is no number"),
        (["fit", HIFA, "--fix", "mu="], 2, "--fix mu=: '' is no number"),
        (["fit", HIFA, "--fix", "mu=inf"], 2, "--fix mu=inf: the value must be finite"),
        (["fit", HIFA, "--fix", "mu=99"], 2, "--fix mu=99: 'mu' cannot be fixed at 99.0: its bounds are"),
        (["fit", HIFA, "--analysis", "x"], 2, "--analysis x: there is no measurement 'x'; there are: 'measurement'"),
        (["fit", HS3, "--analysis", "simPdf_obsdata"], 2, "did you mean 'simPdf_obsData'"),
        (["fit", HS3, "--patch", HIFA], 2, "--patch is for workspaces of pyhf"),
        (["fit", HS3, "--signal", "one"], 2, "--signal is for workspaces of pyhf"),
        (
            ["fit", HS3, "--point", "default"],
            2,
            "there is no parameter point 'default'; did you mean 'default_values'?",
        ),
        (["fit", HIFA, "--point", "fitted"], 2, "--point fitted: a workspace of pyhf has no parameter points"),
        (["limit", HIFA, "--cl", "25"], 2, "cl must be a probability between 0 and 1 or, from 1 on"),
        (["limit", HIFA, "--toys", "-3"], 2, "'--toys': -3 is not in the range x>=1"),
        (["limit", HIFA, "--toys", "5"], 2, "--toys 5: limit needs p-values of 0.05, which 5 toys cannot resolve"),
        (["limit", HIFA, "--poi", "my"], 2, "--poi my: there is no parameter 'my'; did you mean 'mu'?"),
        (["limit", HIFA, "--poi", "uncorr_bkguncrt"], 2, "these are 2 parameters, name one: uncorr_bkguncrt[0], "),
        (
            ["limit", HIFA, "--fix", "mu"],
            2,
            "the file's parameter of interest (--poi takes another): 'mu' picks a fixed",
        ),
        (["impacts", HIFA, "--poi", "my"], 2, "--poi my: there is no parameter 'my'; did you mean 'mu'?"),
        (["impacts", HIFA, "--top", "0"], 2, "0 is not in the range x>=1"),
        (["toys", HIFA, "-n", "0"], 2, "0 is not in the range x>=1"),
        (["minos", HIFA, "mu", "uncor"], 2, "NAMES mu uncor: there is no parameter 'uncor'; did you mean 'uncorr_b"),
        (["minos", HIFA, "--cl", "0"], 2, "cl must be a probability between 0 and 1 or, from 1 on"),
        (["fit", str(hs3.FOLDER / "workspaces" / "rf501_simultaneouspdf.json")], 1, "no likelihood in it"),
    ],
)
def test_mistakes(arguments, code, message):
    assert message in run(*arguments, code=code).stderr


def test_a_broken_file(tmp_path):
    path = tmp_path / "w.json"
    for text, message in (
        ("{", "is no JSON"),
        ("[]", "is no object"),
        ('{"channels": []}', "is the specification of a model"),
    ):
        path.write_text(text)
        assert message in run("fit", path, code=1).stderr


def test_what_is_not_valid_is_said(tmp_path):
    """An exit code of its own: a signal without a limit within the parameter's bounds."""
    spec = hs3.read("pairs/simplemodel_uncorrelated-background_hifa.json")
    spec["measurements"][0]["config"]["parameters"] = [{"name": "mu", "bounds": [[0.0, 0.9]], "inits": [0.5]}]
    path = tmp_path / "w.json"
    path.write_text(json.dumps(spec))
    done = run("limit", path, "--json", tmp_path / "limit.json", code=3)
    assert "beyond bound" in done.stdout
    assert "Beyond the upper bound of mu, 0.9: raise it" in done.stdout
    found = json.loads((tmp_path / "limit.json").read_text())
    assert found["observed"] is None  # NaN is no JSON
    assert found["valid"] is False


@pytest.mark.slow
def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "migrax", "--help"], capture_output=True, text=True, check=True)
    for word in ("fit", "minos", "limit", "toys", "impacts", "Exit codes"):
        assert word in done.stdout
