"""Names of what is no parameter may be empty in pyhf's workspaces, and are so in published ones."""

import copy
import json

import numpy as np
import pytest
from click.testing import CliRunner

import migrax as mx
from workspaces import NORM, modifier, one, peer, points, tree

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver")  # pyhf


def emptied(*where):
    """A workspace with these names empty."""
    spec = copy.deepcopy(one([NORM, modifier("staterror", "mc", [3.0, 7.0, 2.0])]))
    if "measurement" in where:
        spec["measurements"][0]["name"] = ""
    if "channel" in where:
        spec["channels"][0]["name"] = spec["observations"][0]["name"] = ""
    if "sample" in where:
        spec["channels"][0]["samples"][1]["name"] = ""
    return spec


@pytest.mark.slow
@pytest.mark.parametrize("where", ["measurement", "channel", "sample"])
def test_the_likelihood_is_pyhfs(where):
    spec = emptied(where)
    model, nll, _ = peer(spec)
    found, params, data = mx.io.from_pyhf(spec)
    x = points(model, 1)[0]
    np.testing.assert_allclose(found(tree(model, params, x), data), nll(x), rtol=1e-12)


def test_it_can_be_asked_for_by_its_name():
    spec = emptied("measurement")
    spec["measurements"].append(copy.deepcopy(spec["measurements"][0]) | {"name": "other"})
    assert mx.io.from_pyhf(spec, measurement="")[0].measurement == ""
    assert mx.io.from_pyhf(spec, measurement="other")[0].measurement == "other"
    with pytest.raises(ValueError, match="no measurement 'another'; there are '', 'other'"):
        mx.io.from_pyhf(spec, measurement="another")


def test_fitted_parameters_are_written_into_it():
    spec = emptied("measurement", "channel", "sample")
    result = mx.fit(*mx.io.from_pyhf(spec))
    assert bool(result.valid)
    written = mx.io.to_pyhf(result, spec, measurement="")
    start = {p["name"]: p["inits"] for p in written["measurements"][0]["config"]["parameters"]}
    np.testing.assert_allclose(start["mu"], [result["mu"].value], rtol=1e-15)


def test_the_command_line_takes_it(tmp_path):
    from migrax._cli import main

    path = tmp_path / "workspace.json"
    path.write_text(json.dumps(emptied("measurement")))
    found = CliRunner().invoke(main, ["fit", str(path), "--analysis", ""])
    assert found.exit_code == 0, found.output


def test_the_same_empty_name_twice_is_refused():
    spec = emptied("measurement")
    spec["measurements"] *= 2
    with pytest.raises(ValueError, match=r"measurements\[1\]\.name: '' is the name at measurements\[0\]\.name already"):
        mx.io.from_pyhf(spec)


def test_a_parameter_needs_a_name():
    with pytest.raises(ValueError, match=r"modifiers\[0\]\.name: must be a name, got ''"):
        mx.io.from_pyhf(one([modifier("normfactor", "")]))
