"""The command line: tables, JSON, pictures, exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import hs3
import migrax as mx
import workspaces
from migrax._cli import main

HIFA = str(hs3.FOLDER / "pairs" / "simplemodel_uncorrelated-background_hifa.json")
HS3 = HIFA.replace("_hifa", "_hs3")


def run(*arguments, code=0):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("path", [HIFA, HS3], ids=["pyhf", "hs3"])
def test_fit(path, tmp_path):
    done = run("fit", path, "--json", tmp_path / "fit.json", "--save", tmp_path / "fitted.json")
    read = mx.io.from_pyhf if path == HIFA else mx.io.from_hs3
    result = mx.fit(*read(path))
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


def test_limit(tmp_path):
    done = run("limit", HIFA, "--json", tmp_path / "limit.json", "--plot", tmp_path / "limit.png")
    found = json.loads((tmp_path / "limit.json").read_text())
    np.testing.assert_allclose(found["observed"], 1.01156939, rtol=1e-5)
    np.testing.assert_allclose(found["expected"], [0.55988, 0.75702, 1.06235, 1.50117, 2.05079], rtol=2e-5)
    assert found["poi"] == "mu"
    assert "Upper limit on mu at 95 % (CLs)" in done.stdout
    assert (tmp_path / "limit.png").read_bytes().startswith(b"\x89PNG")


def test_toys(tmp_path):
    done = run("toys", HIFA, "-n", 50, "--json", tmp_path / "toys.json", "--store", tmp_path / "store")
    found = json.loads((tmp_path / "toys.json").read_text())
    assert found["toys"] == 50
    assert found["valid"] == 50
    assert np.shape(found["values"]) == (50, 3)
    assert "Pulls" in done.stdout
    same = run("toys", HIFA, "-n", 50, "--json", "-", "--store", tmp_path / "store")
    assert json.loads(same.stdout) == found


def test_impacts(tmp_path):
    done = run("impacts", HS3, "--top", 1, "--json", tmp_path / "impacts.json")
    nll, params, data = mx.io.from_hs3(HS3)
    exact = mx.impacts(nll, mx.fit(nll, params, data), data, "mu")
    found = json.loads((tmp_path / "impacts.json").read_text())["impacts"]
    assert set(found) == set(exact.names)
    for name, up in zip(exact.names, exact.postfit_up, strict=True):
        np.testing.assert_allclose(found[name]["postfit_up"], up, rtol=1e-6, atol=1e-9)
    assert sum(name in done.stdout for name in found) == 1


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
        (["fit", HIFA, "--fix", "m=1"], 1, "'m'"),
        (["fit", HIFA, "--fix", "mu=x"], 1, "could not convert"),
        (["fit", HIFA, "--analysis", "x"], 1, "no measurement 'x'"),
        (["fit", HS3, "--patch", HIFA], 1, "--patch is for workspaces of pyhf"),
        (["limit", HIFA, "--poi", "mu", "--cl", "2"], 1, "cl must be a number between 0 and 1"),
        (["minos", HIFA, "x"], 1, "'x'"),
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
    found = json.loads((tmp_path / "limit.json").read_text())
    assert found["observed"] is None  # NaN is no JSON
    assert found["valid"] is False


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "migrax", "--help"], capture_output=True, text=True, check=True)
    for word in ("fit", "minos", "limit", "toys", "impacts", "Exit codes"):
        assert word in done.stdout
