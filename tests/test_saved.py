"""Results are kept: in files, as plain numbers, as tables of pandas and LaTeX, pickled, copied."""

import copy
import dataclasses
import enum
import functools
import json
import os
import pickle
import re
import subprocess
import sys
import types
from collections import OrderedDict
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx

P = mx.Parameter
SHAPE = np.array([1.0, 4.0, 3.0])
ROOM = np.array([5.0, 4.0, 4.0])
COUNTS = mx.PoissonNLL(lambda p: p["mu"] * SHAPE + ROOM * (1 + 0.1 * p["k"]))
NLL = mx.Joint({"n": COUNTS, "k": mx.NormalConstraint("k", 1.0)})
DATA = {"n": np.array([6.0, 22.0, 16.0]), "k": np.array(0.0)}
LANES = jax.tree.map(lambda x: np.stack([x, x + 1.0, x + 2.0]), DATA)
KEY = functools.cache(lambda: jax.random.key(0))
TOYS = functools.cache(lambda: mx.Toys(12, KEY()))


def start():
    return {"mu": P(5.0, lower=0.0), "k": P(0.0), "note": "what it is for"}


@functools.cache
def fit():
    return mx.fit(NLL, start(), DATA)


@functools.cache
def toys():
    found = mx.fit_toys(NLL, fit().params, TOYS(), data=DATA)
    return dataclasses.replace(found, minos=(-0.9 * found.errors, 1.1 * found.errors))  # which take long to compile


@functools.cache
def minos():
    return mx.minos(NLL, fit(), DATA)


@functools.cache
def searched():
    """As `mx.look_elsewhere` makes it, which takes long to compile."""
    names = [field.name for field in dataclasses.fields(mx.LookElsewhere)]
    figures = dict.fromkeys(names, 0.25) | {"toys": np.array([2.0, np.nan, 1.0]), "toy_significance": np.nan}
    grid = {"grid": np.arange(3.0), "statistic": np.array([0.5, 4.0, np.nan]), "status": np.array([0, 0, 5])}
    return mx.LookElsewhere(**(figures | grid | {"num_failed": 1, "total": 3, "name": "s", "where": "m"}))


def limit_with_errors():
    """As by toys, which take long."""
    errors, to_replace = (jnp.asarray(0.1), jnp.full(5, 0.2)), lambda x: (x.observed_error, x.expected_error)
    return eqx.tree_at(to_replace, made("limit"), errors, is_leaf=lambda x: x is None)


RESULTS = {
    "fit": fit,
    "fits of toys, with minos": toys,
    "vmapped fits": lambda: jax.vmap(lambda d: mx.fit(NLL, start(), d))(LANES),
    "a fit that is not valid": lambda: mx.fit(lambda p, _: (p["x"] + p["y"]) ** 2, {"x": 1.0, "y": 1.0}),
    "a fit that is not finite": lambda: mx.fit(lambda p, d: jnp.sum((d - jnp.sqrt(-p)) ** 2), 1.0, jnp.ones(2)),
    "without covariance": lambda: mx.fit(NLL, start(), DATA, hesse=False),
    "covariance": lambda: fit().covariance,
    "estimate": lambda: fit()["mu"],
    "minos": minos,
    "vmapped minos": lambda: stacked(minos()),
    "profile": lambda: mx.profile(NLL, fit(), DATA, "mu", 4),
    "scan of two": lambda: mx.scan(NLL, fit(), DATA, ("mu", "k"), (3, 2)),
    "contour": lambda: mx.contour(NLL, fit(), DATA, ("mu", "k"), size=8),
    "contours": lambda: mx.contour(NLL, fit(), DATA, ("mu", "k"), cl=[0.68], size=8),
    "impacts": lambda: mx.impacts(NLL, fit(), DATA, "mu"),
    "goodness": lambda: mx.goodness_of_fit(NLL, fit(), DATA),
    "goodness by toys": lambda: mx.goodness_of_fit(NLL, fit(), DATA, toys=12, key=KEY()),
    "test": lambda: mx.hypotest(NLL, fit(), DATA, "mu", 6.0),
    "test by toys": lambda: mx.hypotest(NLL, fit(), DATA, "mu", 6.0, calculator=TOYS()),
    "tests": lambda: stacked(made("test")),
    "statistic": lambda: mx.hypotest(NLL, fit(), DATA, "mu", 6.0).fits,
    "discovery": lambda: mx.discovery(NLL, fit(), DATA, "k"),
    "limit": lambda: mx.upper_limit(NLL, fit(), DATA, "mu"),
    "limit with errors": limit_with_errors,
    "limits": lambda: stacked(made("limit")),
    "interval": lambda: mx.interval(NLL, fit(), DATA, "mu"),
    "look-elsewhere": searched,
    "pulls": lambda: mx.pull_study(toys(), fit().params),
    "coverage": lambda: mx.coverage_study(toys(), fit().params),
    "bias": lambda: mx.bias(toys(), fit().params),
    "bootstrap": lambda: mx.bootstrap(NLL, fit(), DATA, 10, KEY(), kind="poisson"),
}


def stacked(result):
    """Two of them, as `jax.vmap` makes many."""
    return jax.tree.map(lambda x: jnp.stack([x, x]) if eqx.is_array(x) else x, result)


made = functools.cache(lambda case: RESULTS[case]())


def same(a, b):
    """Equal to the last bit, and of the same types."""
    leaves, structure = jax.tree.flatten(a)
    others, other = jax.tree.flatten(b)
    assert structure == other
    for x, y in zip(leaves, others, strict=True):
        assert type(x) is type(y)
        array, other = np.asarray(x), np.asarray(y)
        assert (array.dtype, array.shape, array.tobytes()) == (other.dtype, other.shape, other.tobytes())
    assert repr(a) == repr(b)


@pytest.mark.grid
@pytest.mark.parametrize("case", RESULTS)
def test_a_file(case, tmp_path):
    result = made(case)
    mx.save(tmp_path / "kept", result)
    again = mx.load(tmp_path / "kept")
    same(result, again)
    assert again.to_dict() == result.to_dict()
    assert os.listdir(tmp_path) == ["kept"]


OLDER_ERRORS = ("p_sb", "p_b", "cls", "expected_p_sb", "expected_cls")
COUNTED = ("look-elsewhere", "pulls", "coverage", "bias", "bootstrap")


def with_older_errors(told):
    fields = told["result"]["fields"]
    errors = [fields.pop(f"{name}_error") for name in OLDER_ERRORS]
    fields["errors"] = None if errors[0] is None else {"is": "named tuple", "class": "Errors", "of": errors}


def with_older_name(older, now):
    return lambda told: told["result"]["fields"].update({older: told["result"]["fields"].pop(now)})


OLDER_FILES = {
    "test": with_older_errors,
    "test by toys": with_older_errors,
    "limit": with_older_name("error", "observed_error"),
    "limit with errors": with_older_name("error", "observed_error"),
    **dict.fromkeys(COUNTED, with_older_name("failed", "num_failed")),
}


@pytest.mark.grid
@pytest.mark.parametrize("case", OLDER_FILES)
def test_a_file_with_older_names(case, tmp_path):
    mx.save(tmp_path / "kept", made(case))
    changed(OLDER_FILES[case])(tmp_path / "kept")
    same(made(case), mx.load(tmp_path / "kept"))


def test_older_names():
    test, limit = made("test by toys"), made("limit with errors")
    assert test.errors._fields == OLDER_ERRORS
    assert all(getattr(test.errors, name) is getattr(test, f"{name}_error") for name in OLDER_ERRORS)
    assert test.cls_error > 0
    assert made("test").errors is None
    assert limit.error is limit.observed_error
    for case in COUNTED:
        assert dataclasses.replace(made(case), num_failed=7).failed == 7
    half = dataclasses.replace(test.toys.tested, status=jnp.arange(4) % 2)
    assert int(half.failed) == int(half.num_failed) == 2


@pytest.mark.grid
@pytest.mark.parametrize("case", RESULTS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["deepcopy", "pickle"])
def test_copies(case, copied):
    same(made(case), copied(made(case)))


@pytest.mark.parametrize("case", RESULTS)
def test_plain_numbers(case):
    told = made(case).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["type"] == type(made(case)).__name__


def test_the_numbers_of_a_fit():
    told, result = fit().to_dict(), fit()
    assert list(told["parameters"]) == ["k", "mu"] == told["names"]
    assert told["valid"] is True
    assert told["status"] == "VALID"
    assert told["message"] == result.message
    assert told["nll"] == float(result.nll)
    assert told["ndof"] == 2
    assert told["covariance"]["matrix"] == result.covariance.matrix.tolist()
    mu = told["parameters"]["mu"]
    assert mu["value"] == float(result["mu"].value)
    assert (mu["error"], mu["lower"], mu["upper"]) == (float(result["mu"].error), 0.0, None)
    assert (mu["fixed"], mu["at_limit"], mu["minos_lower"]) == (False, False, None)
    assert minos().result.to_dict()["parameters"]["mu"]["minos_lower"] == float(minos()["mu"].lower)
    many = toys().to_dict()
    assert many["status"] == ["VALID"] * 12
    assert many["parameters"]["k"]["value"] == toys().values[:, 0].tolist()
    assert np.shape(many["covariance"]["matrix"]) == (12, 2, 2)
    assert made("test").to_dict()["fits"]["conditional"]["mu"] == 6.0


def test_what_json_has_no_number_for():
    result = eqx.tree_at(lambda r: (r.nll, r.edm), fit(), (jnp.array(np.inf), jnp.array(-np.inf)))
    assert (result.to_dict()["nll"], result.to_dict()["edm"]) == ("inf", "-inf")
    failed = made("a fit that is not valid").to_dict()
    assert failed["status"] == "FLAT_DIRECTION"
    assert failed["parameters"]["x"]["error"] is None
    assert minos().to_dict()["lower_status"] == ["FOUND", "FOUND"]
    assert made("limit").to_dict()["expected_status"] == ["FOUND"] * 5


def test_fixed_entries_have_a_place():
    params = {"g": P([1.0, 2.0], lower=[0.0, -np.inf], fixed=[False, True]), "c": P(7.0, fixed=True)}
    result = mx.fit(lambda p, _: (p["g"][0] - p["g"][1]) ** 2 + p["c"], params)
    told = result.to_dict()["parameters"]
    assert list(told) == ["c", "g[0]", "g[1]"]
    assert [told[name]["fixed"] for name in told] == [True, False, True]
    assert [told[name]["lower"] for name in told] == [None, 0.0, None]
    assert told["g[1]"] | {"value": 2.0, "error": 0.0, "at_limit": False} == told["g[1]"]


def test_a_loaded_fit_is_as_good(tmp_path):
    mx.save(tmp_path / "fit.npz", fit())
    again = mx.load(tmp_path / "fit.npz")
    assert again.message == fit().message
    same(again["mu"], fit()["mu"])
    same(again.sample(KEY(), 3), fit().sample(KEY(), 3))
    assert again.params["note"] == "what it is for"
    same(mx.minos(NLL, again, DATA), minos())
    same(mx.fit(NLL, again.params, DATA), mx.fit(NLL, fit().params, DATA))
    same(mx.hypotest(NLL, again, DATA, "mu", 6.0), made("test"))
    same(mx.goodness_of_fit(NLL, again, DATA), made("goodness"))


@pytest.mark.slow
def test_another_process(tmp_path):
    mx.save(tmp_path / "fit.npz", fit())
    code = (
        'import jax, sys; jax.config.update("jax_enable_x64", True); import migrax as mx; print(mx.load(sys.argv[1]))'
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "fit.npz")]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=os.environ | {"PYTHONUTF8": "1"}, check=True
    )
    assert done.stdout == f"{fit()}\n"


def test_fits_of_toys_go_on(tmp_path):
    mx.save(tmp_path / "toys.npz", toys())
    again = mx.load(tmp_path / "toys.npz")
    same(mx.pull_study(again, fit().params), made("pulls"))
    same(jax.tree.map(lambda x: x[3], again), jax.tree.map(lambda x: x[3], toys()))


@pytest.mark.float32
def test_float32(tmp_path):
    narrow = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
    shape = narrow(SHAPE)
    result = mx.fit(
        lambda p, d: jnp.sum(p["mu"] * shape - d * jnp.log(p["mu"])), {"mu": P(narrow(5.0))}, narrow(DATA["n"])
    )
    assert result.values.dtype == jnp.float32
    mx.save(tmp_path / "f", result)
    same(mx.load(tmp_path / "f"), result)
    json.dumps(result.to_dict(), allow_nan=False)


def test_float64_needs_float64(tmp_path):
    mx.save(tmp_path / "f", fit())
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"has the type float64.*float32 here.*jax_enable_x64"):
        mx.load(tmp_path / "f")


# Files


def test_exactly_this_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mx.save("without_ending", fit())
    mx.save("with.other", fit())
    assert sorted(os.listdir()) == ["with.other", "without_ending"]
    with np.load("with.other", allow_pickle=False) as kept:
        header = json.loads(str(kept["migrax"]))
        values = header["result"]["fields"]["values"]
        np.testing.assert_array_equal(kept[values["of"]], fit().values)
    assert (header["format"], header["kind"]) == (1, "FitResult")


def test_the_same_result_makes_the_same_file(tmp_path):
    mx.save(tmp_path / "a", fit())
    mx.save(tmp_path / "b", mx.load(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("where", ["numpy.lib.format.write_array", "os.fsync"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["killed", "full"])
def test_nothing_is_lost_if_it_is_interrupted(where, error, tmp_path, monkeypatch):
    mx.save(tmp_path / "f", fit())

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(where, fails)
    with pytest.raises(type(error), match="cannot be written" if isinstance(error, OSError) else None):
        mx.save(tmp_path / "f", minos())
    assert os.listdir(tmp_path) == ["f"]
    same(mx.load(tmp_path / "f"), fit())


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    mx.save(tmp_path / "link", fit())
    assert (tmp_path / "link").is_symlink()
    same(mx.load(tmp_path / "file"), fit())


def test_where_there_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        mx.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match="is a directory; load takes the path of a file"):
        mx.load(tmp_path)
    with pytest.raises(IsADirectoryError, match="is a directory; save takes the path of a file"):
        mx.save(tmp_path, fit())
    with pytest.raises(FileNotFoundError, match="nowhere/f cannot be written"):
        mx.save(tmp_path / "nowhere" / "f", fit())


def test_what_is_no_result(tmp_path):
    with pytest.raises(TypeError, match="a path and a result, in this order; got FitResult"):
        mx.save(fit(), tmp_path / "f")
    with pytest.raises(TypeError, match="save takes a result; got dict"):
        mx.save(tmp_path / "f", {"fit": 1})
    with pytest.raises(TypeError, match="load takes a path; got int"):
        mx.load(3)

    class Covariance(type(fit().covariance)):
        pass

    own = Covariance(fit().covariance.matrix, fit().covariance.valid, fit().names)
    with pytest.raises(TypeError, match=f"save knows no Covariance of {__name__}; it knows FitResult, Covariance, "):
        mx.save(tmp_path / "f", own)
    assert os.listdir(tmp_path) == []


def changed(header=None, arrays=None):
    """Another file than was written: by a function of its header, or of its arrays."""

    def change(path):
        with np.load(path) as kept:
            found = dict(kept)
        if header is not None:
            told = json.loads(str(found["migrax"]))
            found["migrax"] = np.array(json.dumps(header(told) or told))
        if arrays is not None:
            arrays(found)
        with open(path, "wb") as file:
            np.savez(file, **found)

    return change


def flipped(path):
    """One bit of an array."""
    bits = bytearray(path.read_bytes())
    at = bits.index(np.asarray(fit().values).tobytes())
    bits[at + 3] ^= 16
    path.write_bytes(bits)


def written(by, *arrays, **more):
    def write(path):
        with open(path, "wb") as file:
            by(file, *arrays, **more)

    return write


def in_result(**fields):
    return lambda told: told["result"]["fields"].update(fields)


def without(name):
    return lambda told: told["result"]["fields"].pop(name) and None


def _system(told):
    tree = told["result"]["fields"]["params"]["tree"]["of"]
    tree.append(["run", {"is": "name", "of": {"module": "posix", "name": "system"}}])


BROKEN = {
    "empty": (lambda p: p.write_bytes(b""), "was not written by mx.save: it is empty"),
    "text": (lambda p: p.write_text("mu = 3"), "was not written by mx.save: it is no npz"),
    "one array": (written(np.save, np.ones(3)), "was not written by mx.save: it is no npz"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "is damaged, or was not written to its end"),
    "half": (lambda p: p.write_bytes(p.read_bytes()[:2000]), "is damaged, or was not written to its end"),
    "flipped": (flipped, r"is damaged.*CRC"),
    "other npz": (written(np.savez, np.ones(3)), "it has no entry 'migrax'"),
    "pickles": (
        written(np.savez, migrax=np.array([{}], dtype=object)),
        r"is damaged.*[Oo]bject arrays cannot be loaded",
    ),
    "no JSON": (changed(arrays=lambda a: a.update(migrax=np.array("{"))), "is damaged: its header cannot be read"),
    "no object": (changed(lambda h: [h]), "is damaged: its header cannot be read"),
    "no format": (changed(lambda h: h.pop("format") and None), "is damaged: its header cannot be read.*format"),
    "newer": (
        changed(lambda h: h.update(format=2, written_by={"migrax": "9.9"})),
        r"is of format 2, and this version of migrax reads up to 1: a newer one wrote it \(9.9\). Update migrax",
    ),
    "unknown kind": (
        changed(lambda h: h.update(kind="FitResults")),
        r"holds a 'FitResults', which this version of migrax does not know \(there is 'FitResult'\)",
    ),
    "other kind": (changed(lambda h: h.update(kind="Minos")), "holds a FitResult that is called Minos"),
    "missing array": (
        changed(arrays=lambda a: a.pop("a0")),
        "cannot be read: the array 'a0', which is FitResult.values, is missing",
    ),
    "other shape": (
        changed(arrays=lambda a: a.update(a0=np.ones(3))),
        r"the array 'a0', which is FitResult.values, has the shape \[3\] and the type <f8, where \[2\] and <f8",
    ),
    "other type": (changed(arrays=lambda a: a.update(a0=np.ones(2, np.int64))), "has the shape .* the type <i8, where"),
    "no result": (changed(lambda h: h.pop("result") and None), "is damaged: its header makes no sense"),
    "nonsense": (changed(in_result(nll={"is": "something"})), "is damaged: its header makes no sense"),
    "no node": (changed(in_result(nll={})), "is damaged: its header makes no sense"),
    "missing field": (changed(without("nll")), "FitResult lacks 'nll', which the class FitResult has"),
    "another field": (changed(in_result(color="red")), "FitResult has 'color', which the class FitResult has not"),
    "unknown class": (
        changed(in_result(nll={"is": "object", "class": "Nothing", "fields": {}})),
        "FitResult.nll needs what is not there: migrax has no class 'Nothing'",
    ),
    "a class in a wrong place": (
        changed(in_result(nll={"is": "named tuple", "class": "Parameter", "of": []})),
        "FitResult.nll is no named tuple of Parameter",
    ),
    "something that runs": (
        changed(_system),
        r"params\['run'\] needs what is not there: 'system' of the module 'posix'",
    ),
    "a class that is none": (
        changed(in_result(nll={"is": "object", "class": {"module": "numpy", "name": "load"}, "fields": {}})),
        "is no object of load",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name(case, tmp_path):
    path, (break_it, message) = tmp_path / "kept.npz", BROKEN[case]
    mx.save(path, fit())
    with np.load(path) as kept:
        assert "a0" in kept
    break_it(path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} .*{message}"):
        mx.load(path)


# Trees of the user's

CODE = """
import dataclasses, enum, equinox as eqx, migrax as mx
from typing import NamedTuple

class Peak(eqx.Module):
    mu: mx.Parameter
    width: mx.Parameter
    power: int = eqx.field(static=True)

    def __init__(self, mu, width):
        self.mu, self.width, self.power = mx.Parameter(mu), mx.Parameter(width, lower=0.1), 2

    def __call__(self, x):
        return abs((x - self.mu) / self.width) ** self.power

class Pair(NamedTuple):
    peak: Peak
    link: object

def link(x):
    return x
"""


@pytest.fixture
def model(monkeypatch):
    """A module of the user's."""
    module = types.ModuleType("a_model_of_the_user")
    monkeypatch.setitem(sys.modules, "a_model_of_the_user", module)
    exec(CODE, vars(module))
    return module


def of_pair(p, d):
    return jnp.sum(p.link(p.peak(d)) + jnp.log(p.peak.width))


X = np.array([0.5, 1.5, 3.0])


def test_classes_of_the_user(model, tmp_path, monkeypatch):
    begin = model.Pair(model.Peak(1.0, 2.0), model.link)
    result = mx.fit(of_pair, begin, X)
    mx.save(tmp_path / "f", result)
    again = mx.load(tmp_path / "f")
    same(again, result)
    assert type(again.params) is model.Pair
    assert type(again.params.peak) is model.Peak
    assert again.params.link is model.link
    same(mx.minos(of_pair, again, X), mx.minos(of_pair, result, X))

    monkeypatch.delitem(sys.modules, "a_model_of_the_user")
    message = (
        r"params needs what is not there: 'Pair' of the module 'a_model_of_the_user' is not imported. Import it first"
    )
    with pytest.raises(ValueError, match=message + r", or give mx.load\(path, params=tree\)"):
        mx.load(tmp_path / "f")
    assert "a_model_of_the_user" not in sys.modules
    same(mx.load(tmp_path / "f", params=begin), result)


def test_a_class_that_has_changed(model, tmp_path):
    mx.save(tmp_path / "f", mx.fit(lambda p, d: jnp.sum(p(d) + jnp.log(p.width)), model.Peak(1.0, 2.0), X))

    class Peak(eqx.Module):
        mu: mx.Parameter

    Peak.__module__, Peak.__qualname__ = model.__name__, "Peak"
    model.Peak = Peak
    with pytest.raises(ValueError, match="params has 'width', which the class Peak has not"):
        mx.load(tmp_path / "f")
    model.Peak = lambda: None
    with pytest.raises(ValueError, match="'Peak' of the module 'a_model_of_the_user' is not imported"):
        mx.load(tmp_path / "f")


def test_what_has_no_name_is_left_out(tmp_path):
    begin = {"mu": P(5.0), "f": lambda x: x, "kind": [int]}
    nll = lambda p, d: jnp.sum((p["f"](p["mu"]) - d) ** 2)  # noqa: E731
    result = mx.fit(nll, begin, X)
    mx.save(tmp_path / "f", result)
    with pytest.raises(
        ValueError, match=r"params\['f'\] was the function .*<lambda> of .*, which a file cannot hold: give"
    ):
        mx.load(tmp_path / "f")
    again = mx.load(tmp_path / "f", params=begin)
    same(again, result)
    assert again.params["f"] is begin["f"]
    counts = mx.PoissonNLL(lambda p: p["f"](p["mu"]) * SHAPE + ROOM)
    test = mx.hypotest(counts, begin, DATA["n"], "mu", 5.0)
    mx.save(tmp_path / "test", test)
    again = mx.load(tmp_path / "test", params=begin)
    same(again, test)
    assert again.fits.conditional["f"] is begin["f"]


def test_another_tree_for_many_fits(tmp_path):
    mx.save(tmp_path / "f", toys())
    same(mx.load(tmp_path / "f", params=start()), toys())
    same(mx.load(tmp_path / "f", params=toys().params), toys())
    with pytest.raises(ValueError, match=r"has numbers of shape \(5,\) at 'k.value', the file has \(12,\)"):
        mx.load(tmp_path / "f", params=jax.tree.map(lambda x: x[:5] if eqx.is_array(x) else x, toys().params))
    begin = {"mu": 5.0, "k": 0.0, "note": "else"}  # numbers, where there were Parameters with a bound
    with pytest.raises(
        ValueError, match=r"lacks 'k.value', 'mu.value', 'mu.lower' and has 'k', 'mu', which the file has not"
    ):
        mx.load(tmp_path / "f", params=begin)


OTHER = {
    "another name": (
        {"m": P(5.0, lower=0.0), "k": P(0.0)},
        "lacks 'mu.value', 'mu.lower' and has 'm.value', 'm.lower'",
    ),
    "no bound": (
        {"mu": P(5.0), "k": P(0.0)},
        "params is another tree than the one that was saved: it lacks 'mu.lower'",
    ),
    "another shape": (
        {"mu": P(5.0, lower=0.0), "k": P([0.0])},
        r"has numbers of shape \(1,\) at 'k.value', the file has",
    ),
    "fixed": (
        {"mu": P(5.0, lower=0.0, fixed=True), "k": P(0.0)},
        "has the free parameters k; those of the file are k, mu",
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_another_tree_is_checked(case, tmp_path):
    mx.save(tmp_path / "f", fit())
    with pytest.raises(ValueError, match=f"/f cannot be read: .*{OTHER[case][1]}"):
        mx.load(tmp_path / "f", params=OTHER[case][0])


def test_where_there_is_no_tree(tmp_path):
    mx.save(tmp_path / "f", made("profile"))
    with pytest.raises(ValueError, match="holds a Profile, which has no tree of parameters: leave params out"):
        mx.load(tmp_path / "f", params=start())
    with pytest.raises(TypeError, match=r"got a result: pass result\.params"):
        mx.load(tmp_path / "f", params=fit())


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Plain:
    a: object


class Two(NamedTuple):
    x: object
    y: object


def test_all_that_a_tree_may_hold(tmp_path):
    tree = {
        "p": P([1.0, 2.0], upper=9.0, fixed=[True, False]),
        "phase": P(0.1, period=2 * jnp.pi),
        "3": [None, True, 7, -0.0, 1e300, float("nan"), float("-inf"), 1 - 2j, "Ω\x00\n", ()],
        "two": Two(Color.RED, Plain(OrderedDict(z=1, a=[2]))),
        "arrays": (
            np.arange(6, dtype=">i2").reshape(2, 3).T,
            np.array(["x", "yz"]),
            np.float32(0.1),
            np.zeros((0, 3), complex),
            jnp.array([1.5, -2.0], jnp.bfloat16),
            np.array(3.0, jnp.bfloat16),
            jnp.int8(3),
            np.datetime64("2020-01-01"),
        ),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "density": mx.distributions.Normal(P(1.0), P(2.0)),
        "network": eqx.nn.MLP(1, 1, 2, 1, jnp.tanh, jnp.tanh, key=KEY()),
        "functions": [jax.nn.softplus, jnp.tanh, jnp.float32, start],
    }
    result = dataclasses.replace(fit(), _params=tree)
    mx.save(tmp_path / "f", result)
    again = mx.load(tmp_path / "f").params
    assert repr(again) == repr(result.params)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(again), strict=True):
        assert type(x) is type(y)
        if eqx.is_array(x) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            assert jax.random.key_impl(x) == jax.random.key_impl(y)
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        if isinstance(x, np.ndarray | np.generic | jax.Array):
            assert (x.dtype, x.shape) == (y.dtype, y.shape)
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert again["arrays"][0].dtype.str == ">i2"
    assert again["functions"] == tree["functions"]


LOST = {
    "local class": type("Local", (eqx.Module,), {"__module__": __name__, "__qualname__": "f.<locals>.Local"})(),
    "of Python": json.dumps,
    "an object": object(),
    "partial": functools.partial(start),
}


@pytest.mark.parametrize("case", LOST)
def test_what_a_file_cannot_hold(case, tmp_path):
    mx.save(tmp_path / "f", dataclasses.replace(fit(), _params={**fit().params, "odd": LOST[case]}))
    with pytest.raises(ValueError, match=r"params\['odd'\] was an? .*|params\['odd'\] was the function dumps of json"):
        mx.load(tmp_path / "f")


def test_outside_of_a_tree_nothing_is_left_out(tmp_path):
    with pytest.raises(TypeError, match="a file has no place for an array of object"):
        mx.save(tmp_path / "f", dataclasses.replace(fit(), chi2=np.array([None])))
    with pytest.raises(TypeError, match="a file has no place for the function"):
        mx.save(tmp_path / "f", dataclasses.replace(fit(), chi2=lambda: 1))


@pytest.mark.parametrize("what", ["to_dict", "to_pandas", "to_latex", "save"])
def test_inside_of_jit(what, tmp_path):
    def inside(result):
        with pytest.raises(TypeError, match=f"{what} needs numbers, and this FitResult is traced"):
            mx.save(tmp_path / "f", result) if what == "save" else getattr(result, what)()
        return result.nll

    jax.eval_shape(inside, fit())


# Tables


def latex_rows(text):
    """The cells of a `tabular` below its head."""
    return [line.removesuffix(r" \\").split(" & ") for line in text.split("\\hline\n")[2].splitlines()]


def test_latex_of_a_fit():
    text = fit().to_latex()
    assert text.startswith("\\begin{tabular}{lr}\n\\hline\nName & Value \\\\\n\\hline\n")
    assert text.endswith("\\hline\n\\end{tabular}")
    for name, cell in latex_rows(text):
        value, error = (float(x) for x in re.fullmatch(r"\$(\S+) \\pm (\S+)\$", cell).groups())
        shown = 10 ** np.floor(np.log10(error)) / 10  # one or two digits of the error are kept
        np.testing.assert_allclose([value, error], [fit()[name].value, fit()[name].error], rtol=0, atol=5 * shown)
    (_, _), (name, cell) = latex_rows(minos().result.to_latex())
    value, upper, lower = (float(x) for x in re.fullmatch(r"\$(\S+)\^\{\+(\S+)\}_\{(-\S+)\}\$", cell).groups())
    assert name == "mu"
    np.testing.assert_allclose([lower, upper], [minos()["mu"].lower, minos()["mu"].upper], atol=0.05)
    np.testing.assert_allclose(value, fit()["mu"].value, atol=0.05)


def of_rows(**params):
    """A fit with given values, as its table shows them."""
    tree = {name: P(value, **more) for name, (value, _, more) in params.items()}
    free = [name for name in sorted(params) if not params[name][2].get("fixed")]
    values, errors = (jnp.array([params[name][i] for name in free]) for i in (0, 1))
    limits = jnp.array(["lower" in params[name][2] for name in free])
    nothing = jnp.zeros(len(free), bool)
    return dataclasses.replace(
        fit(), _params=tree, values=values, errors=errors, at_limit=limits, on_kink=nothing, names=tuple(free)
    )


def test_latex_of_numbers_of_all_sizes():
    result = of_rows(
        a_1=(1.234, 0.9, {}),
        big=(123456.0, 1234.0, {}),
        c=(7.5, 0.0, {"fixed": True}),
        d=(0.0, 0.0, {"lower": 0.0}),
        unknown=(2.5, float("nan"), {}),
        small=(1.5e-9, 2.5e-10, {}),
    )
    assert latex_rows(result.to_latex()) == [
        ["a\\_1", "$1.2 \\pm 0.9$"],
        ["big", "$(123.5 \\pm 1.2) \\times 10^{3}$"],
        ["c", "$7.5$ (fixed)"],
        ["d", "$0$ (at limit)"],
        ["small", "$(1.50 \\pm 0.25) \\times 10^{-9}$"],
        ["unknown", "$2.5$"],
    ]
    at_bound = dataclasses.replace(result, minos=(jnp.array([-0.9, -1, 0, -1, -1]), jnp.full(5, 0.92)))
    assert latex_rows(at_bound.to_latex())[3] == ["d", "$0.0^{+0.9}_{-0.0}$ (at limit)"]
    asymmetric = dataclasses.replace(result, minos=(jnp.full(5, -0.88), jnp.array([0.96, jnp.nan, 0.96, 0.96, 0.96])))
    assert latex_rows(asymmetric.to_latex())[:2] == [
        ["a\\_1", "$1.2^{+1.0}_{-0.9}$"],
        ["big", "$(123.4560^{\\mathrm{n/a}}_{-0.0009}) \\times 10^{3}$"],
    ]


def test_latex_is_escaped():
    text = of_rows(**{"[\N{GREEK SMALL LETTER SIGMA}_0]": (1.0, 0.5, {}), "50% & {x}^2 ~\\": (1.0, 0.5, {})}).to_latex()
    assert "x[$\\sigma$\\_0] & " in text
    assert "50\\% \\& \\{x\\}\\textasciicircum{}2 \\textasciitilde{}\\textbackslash{} & " in text


def test_latex_of_the_others():
    assert latex_rows(fit().covariance.to_latex())[0][0] == "k"
    (_, *k), (_, *mu) = latex_rows(fit().covariance.to_latex())
    found = [[float(x.strip("$")) for x in row] for row in (k, mu)]
    np.testing.assert_allclose(found, fit().covariance.matrix, atol=0.05)
    for (name, *errors), own in zip(latex_rows(minos().to_latex()), minos().names, strict=True):
        assert name == own
        np.testing.assert_allclose([float(e.strip("$")) for e in errors], minos()[name][:2], atol=0.005)
    limit = made("limit")
    observed, lowest, *_ = latex_rows(limit.to_latex())
    assert observed[0] == "Observed"
    assert lowest[0] == "Expected $-2\\sigma$"
    np.testing.assert_allclose(float(observed[1].strip("$")), limit.observed, rtol=1e-5)
    assert latex_rows(searched().to_latex())[0][1] == "$0.25$"
    assert limit.to_latex().startswith("% Upper limit on mu at 95 % (CLs)\n\\begin{tabular}{lr}")
    assert latex_rows(made("impacts").to_latex())[0][0] == "k"
    assert latex_rows(toys().to_latex())[1][0] == "mu"
    assert re.fullmatch(r"\$\S+ \\pm \S+\$", latex_rows(made("bias").to_latex())[0][2])
    assert " \\%$" not in made("coverage").to_latex()
    assert " \\% & " in made("coverage").to_latex()
    for case in ("test", "tests", "test by toys", "discovery", "limits", "interval", "look-elsewhere", "pulls"):
        assert made(case).to_latex().endswith("\\end{tabular}")


def test_latex_has_all_rows():
    many = jax.tree.map(lambda x: jnp.stack([x] * 45), made("interval"))
    assert len(latex_rows(many.to_latex())) == 45
    assert str(many).endswith("and 5 more")


def test_one_table_is_of_one_result():
    for case, name in (("vmapped minos", "Minos"), ("fits of toys, with minos", "Covariance")):
        many = made(case) if name == "Minos" else made(case).covariance
        assert many.to_dict()["type"] == name
        with pytest.raises(ValueError, match=f"is of one {name}, and these are .*take a lane first"):
            many.to_latex()


def test_frame_of_a_fit():
    pytest.importorskip("pandas")
    frame = minos().result.to_pandas()
    assert list(frame.index) == ["k", "mu"]
    assert frame.index.name == "name"
    columns = ["value", "error", "minos_lower", "minos_upper", "lower", "upper", "fixed", "at_limit"]
    assert list(frame.columns) == columns
    np.testing.assert_array_equal(frame["value"], fit().values)
    np.testing.assert_array_equal(frame["error"], fit().errors)
    np.testing.assert_array_equal(frame["minos_upper"], minos().upper)
    assert frame.loc["mu", "lower"] == 0
    assert frame.loc["k", "lower"] == -np.inf
    assert frame.loc["mu", "upper"] == np.inf
    assert frame["fixed"].dtype == bool
    many = toys().to_pandas()
    assert many.shape == (12, 2 * 4 + 3)
    assert many.index.name == "lane"
    np.testing.assert_array_equal(many["mu"], toys().values[:, 1])
    np.testing.assert_array_equal(many["mu_error"], toys().errors[:, 1])
    np.testing.assert_array_equal(many["k_minos_lower"], toys().minos[0][:, 0])
    assert set(many["status"]) == {"VALID"}
    assert many["valid"].all()
    grid = jax.tree.map(lambda x: jnp.stack([x, x]), toys())
    assert grid.to_pandas().index.names == ["lane_0", "lane_1"]


def test_frames_of_the_others():
    pytest.importorskip("pandas")
    matrix = fit().covariance.to_pandas()
    np.testing.assert_array_equal(matrix.loc["k", "mu"], fit().covariance["k", "mu"])
    assert toys().covariance.to_pandas().shape == (24, 2)
    np.testing.assert_array_equal(minos().to_pandas().loc["mu", "lower"], minos()["mu"].lower)
    many = made("vmapped minos")
    np.testing.assert_array_equal(many.to_pandas().loc[(1, "mu"), "upper"], many["mu"].upper[1])
    np.testing.assert_array_equal(made("impacts").to_pandas().loc["k", "linear"], made("impacts").linear[0])
    limits = made("limits")
    table = limits.to_pandas()["limit"].unstack()
    np.testing.assert_array_equal(table["Observed"], limits.observed)
    np.testing.assert_array_equal(table["Expected +1 sigma"], limits.expected[:, 3])
    assert set(made("limit").to_pandas()["status"]) == {"FOUND"}
    np.testing.assert_array_equal(made("test").to_pandas()["cls"][1:], made("test").expected_cls)
    assert "cls_error" in made("test by toys").to_pandas()
    assert list(made("limit with errors").to_pandas()["limit_error"]) == [0.1] + [0.2] * 5
    found = made("discovery").to_pandas()["significance"]
    np.testing.assert_array_equal(found["Expected"], made("discovery").expected_significance)
    assert np.isnan(found["Expected -1 sigma"])
    assert made("interval").to_pandas().shape == (1, 6)
    assert list(made("look-elsewhere").to_pandas().columns) == ["m", "statistic", "status"]
    np.testing.assert_array_equal(made("bias").to_pandas()["spread"], made("bias").spread)
    assert list(made("pulls").to_pandas().index) == ["k", "mu"]
    assert "minos_fraction" in made("coverage").to_pandas()
    assert made("bootstrap").to_pandas().shape == (2, 5)


def test_frames_of_curves():
    pytest.importorskip("pandas")
    along = made("profile").to_pandas()
    np.testing.assert_array_equal(along["mu"], made("profile").grid[0])
    np.testing.assert_array_equal(along["k"], made("profile").points[:, 0])
    plane = made("scan of two")
    frame = plane.to_pandas()
    assert len(frame) == 6
    np.testing.assert_array_equal(frame["mu"], np.repeat(plane.grid[0], 2))
    np.testing.assert_array_equal(frame["k"], np.tile(plane.grid[1], 3))
    np.testing.assert_array_equal(frame["nll"], np.ravel(plane.nll))
    lanes = jax.tree.map(lambda x: jnp.stack([x, x]), plane)
    assert lanes.to_pandas().index.names == ["lane", "point"]
    np.testing.assert_array_equal(lanes.to_pandas().loc[1]["k"], frame["k"])
    region = made("contours")
    np.testing.assert_array_equal(region.to_pandas().loc[0]["mu"], region.values[0, :, 0])
    assert region.to_pandas().index.names == ["curve", "point"]
    assert list(made("contour").to_pandas().columns) == ["k", "mu", "rise", "status", "valid"]


def test_a_parameter_with_the_name_of_a_column():
    pytest.importorskip("pandas")
    many = dataclasses.replace(toys(), names=("k", "nll"))
    with pytest.raises(ValueError, match="two columns of the table would be called 'nll'"):
        many.to_pandas()


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for case in ("fit", "fits of toys, with minos", "minos", "limit", "bias"):
        with pytest.raises(ImportError, match="pip install pandas"):
            made(case).to_pandas()


def test_a_store_of_toys_says_what_it_is(tmp_path):
    store = tmp_path / "toys"
    mx.fit_toys(mx.PoissonNLL(lambda p: p["mu"] * jnp.ones(2)), {"mu": 5.0}, mx.Toys(4, jax.random.key(0)), store=store)
    for path in sorted(store.iterdir()):
        with pytest.raises(ValueError, match=r"toys is a store of toys: mx\.fit_toys"):
            mx.load(path)
    with pytest.raises(IsADirectoryError, match="is a store of toys"):
        mx.load(store)
