"""The toys of tests, limits, intervals and searches in stores, and profiles: shards, merging, interruption."""

import json
import multiprocessing
import re
import shutil
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._hypotest import stored
from migrax._hypotest.limit_status import LimitStatus
from migrax._hypotest.noisy_root import Heights, roots_between
from migrax._stores.store import Store
from toy_jobs import Dying, same

SIGNAL, BACKGROUND = jnp.array([3.0, 8.0, 5.0]), jnp.array([30.0, 28.0, 20.0])
PEAKS = jnp.exp(-0.5 * (jnp.arange(3.0) - jnp.arange(3.0)[:, None]) ** 2)  # of the signal at each place


def rates(p):  # by name, for the workers of an executor
    return p["mu"] * SIGNAL + p["b"] * BACKGROUND


def bump(p):
    return p["s"] * 10 * jnp.exp(-0.5 * (jnp.arange(8.0) - p["at"]) ** 2) + p["b"] * jnp.full(8, 30.0)


NLL = mx.Joint(
    {
        "main": mx.PoissonNLL(rates),
        "b": mx.NormalConstraint("b", 0.1),
    }
)
PARAMS = {"mu": mx.Parameter(1.0, lower=0.0, upper=20.0), "b": mx.Parameter(1.0, lower=0.1)}
DATA = {"main": jnp.array([35.0, 34.0, 22.0]), "b": jnp.array(1.02)}
BUMP = mx.PoissonNLL(bump)
BUMP_START = {"s": mx.Parameter(0.5, lower=0.0), "b": mx.Parameter(1.0, lower=0.1), "at": mx.Parameter(3.0)}
BUMP_DATA = jnp.array([29.0, 33.0, 28.0, 44.0, 40.0, 27.0, 30.0, 31.0])
KEY = jax.random.key(7)
N, SIZE = 160, 32
VALUES = [0.5, 1.5, 2.5, 4.0]


def toys(**options):
    return mx.Toys(N, KEY, **({"batch_size": SIZE} | options))


def one_test(**options):
    return mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, calculator=toys(**options))


def limit(**options):
    return mx.upper_limit(NLL, PARAMS, DATA, "mu", values=VALUES, calculator=toys(**options))


def interval(**options):
    kind, values = "feldman-cousins", [0.0, 0.25, 0.6, 1.6, 2.2, 3.0]
    return mx.interval(NLL, PARAMS, DATA, "mu", kind=kind, values=values, calculator=toys(**options))


def importance(**options):
    return mx.discovery(NLL, PARAMS, DATA, "mu", calculator=toys(importance=True, **options))


def search(**options):
    return mx.look_elsewhere(
        BUMP, BUMP_START, BUMP_DATA, "s", "at", np.linspace(2.0, 5.0, 4), toys(**options), level=0.3
    )


CALLS = [one_test, limit, interval, importance, search]


def checksums(folder):
    files = sorted(folder.glob("*/batch-*.npz"))
    return {f"{file.parent.name}/{file.name}": str(np.load(file)["checksum"]) for file in files}


@pytest.fixture
def no_fits(monkeypatch):
    """Toys are read from now on."""

    def refused(*_, **__):
        raise AssertionError("toys are fitted, but all are stored")

    return lambda: monkeypatch.setattr(stored, "Ensemble", refused)


class TestShards:
    @pytest.mark.parametrize("call", CALLS)
    def test_merged(self, call, tmp_path, no_fits):
        whole = call(store=tmp_path / "whole")
        parts = [call(store=tmp_path / str(i), shard=(i, 3)) for i in range(3)]
        merged = mx.merge([tmp_path / str(i) for i in (1, 0, 2)], tmp_path / "all")
        assert checksums(tmp_path / "all") == checksums(tmp_path / "whole")
        assert all(len(study) == N and not study.missing for study in merged.studies)
        no_fits()
        same(call(store=tmp_path / "all"), whole)
        if call is one_test:
            assert [part.toys.tested.total for part in parts] == [32, 64, 64]
            same(np.concatenate([p.toys.tested.values for p in parts], axis=1), whole.toys.tested.values)

    @pytest.mark.parametrize("call", CALLS)
    def test_the_same_as_without(self, call, tmp_path):
        """A store changes the last bits, and a little the point where toys are drawn: one in a hundred is another."""
        plain, kept = call(), call(store=tmp_path)
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(kept), strict=True):
            assert np.mean(~np.isclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True)) < 0.02

    def test_without_a_store(self, tmp_path):
        part = one_test(shard=(1, 5))
        assert part.toys.tested.total == part.toys.alternative.total == 32
        same(part.toys, one_test(shard=(1, 5), store=tmp_path).toys)

    def test_without_a_folder(self, tmp_path):
        for i in range(2):
            one_test(store=tmp_path / str(i), shard=(i, 2))
        merged = mx.merge([tmp_path / "0", tmp_path / "1"])
        assert merged.path is None
        whole = one_test(store=tmp_path / "whole")
        found = {study.what: study.values for study in merged.studies}
        same(found["QTilde of mu = 1, toys of mu = 0"], whole.toys.alternative.values[0])
        same(found["QTilde of mu = 1, toys of mu = 1"], whole.toys.tested.values[0])

    def test_the_default_size(self):
        assert [mx.Toys(1000, KEY, shard=(0, n)).size for n in (1, 4, 7)] == [1000, 250, 142]
        assert mx.Toys(10**6, KEY, shard=(0, 100)).size == 4096
        assert len(mx.Toys(10, KEY, shard=(9, 10)).batches) == 1


class TestStore:
    def test_interrupted(self, tmp_path, monkeypatch):
        """A search for a limit goes on where it was interrupted."""
        find = lambda path: mx.upper_limit(NLL, PARAMS, DATA, "mu", calculator=toys(batch_size=80, store=path))  # noqa: E731
        whole, write, written = find(tmp_path / "whole"), Store.write, []

        def interrupted(self, i, batch):
            if len(written) == 9:
                raise KeyboardInterrupt
            write(self, i, batch)
            written.append(i)

        with monkeypatch.context() as patched:
            patched.setattr(Store, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                find(tmp_path / "some")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "some").glob("*/batch*")}
        assert len(before) == 9
        assert not list((tmp_path / "some").glob("*/.claim*"))
        same(find(tmp_path / "some"), whole)
        assert all(path.stat().st_mtime_ns == time for path, time in before.items())
        assert checksums(tmp_path / "some") == checksums(tmp_path / "whole")

    def test_extended(self, tmp_path):
        one_test(store=tmp_path)
        times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/batch*")}
        longer = mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, calculator=mx.Toys(N + 50, KEY, store=tmp_path))
        assert longer.toys.tested.total == N + 50
        assert all(path.stat().st_mtime_ns == time for path, time in times.items())
        with pytest.raises(ValueError, match="is of 210 toys, these are 160"):
            one_test(store=tmp_path)

    def test_shared(self, tmp_path):
        """Two jobs with one store: each batch is written once."""
        found, writes, write = [], [], Store.write

        def counted(self, i, batch):
            writes.append((self.path.name, i))
            write(self, i, batch)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Store, "write", counted)
            jobs = [threading.Thread(target=lambda: found.append(one_test(store=tmp_path))) for _ in range(2)]
            for job in jobs:
                job.start()
            for job in jobs:
                job.join()
        assert len(writes) == len(set(writes)) == 10
        same(found[0].toys, found[1].toys)

    def test_what_is_there(self, tmp_path):
        limit(store=tmp_path, shard=(0, 5))
        there = mx.open_store(tmp_path)
        assert len(there.studies) == 2 * len(VALUES)
        assert {len(study) for study in there.studies} == {SIZE}
        study = there.studies[0]
        assert (study.what, study.n, study.names) == ("QTilde of mu = 0.5, toys of mu = 0", N, ("mu",))
        assert study.missing == (1, 2, 3, 4)
        assert np.all(study.status == 0)
        assert np.all(study.values >= 0)
        assert "QTilde of mu = 2.5, toys of mu = 2.5 │ 32 of 160" in repr(there)
        assert "32 of 160 toys" in repr(study)

    def test_another_problem(self, tmp_path):
        one_test(store=tmp_path)
        said = "holds the same of other {}, which is not read"
        with pytest.warns(UserWarning, match=said.format("data")):
            mx.hypotest(NLL, PARAMS, DATA | {"b": 1.05}, "mu", 1.0, calculator=toys(store=tmp_path))
        mx.hypotest(NLL, PARAMS, DATA, "mu", 2.0, calculator=toys(store=tmp_path))
        bounded = PARAMS | {"b": mx.Parameter(1.0, lower=0.2)}
        with pytest.warns(UserWarning, match="holds the same of other"):
            mx.hypotest(NLL, bounded, DATA, "mu", 1.0, calculator=toys(store=tmp_path))
        with pytest.warns(UserWarning, match="holds the same of other"):
            mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, calculator=mx.Toys(N, jax.random.key(8), store=tmp_path))
        mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, statistic=mx.QMu(), calculator=toys(store=tmp_path))
        assert len(mx.open_store(tmp_path).studies) == 12

    def test_another_start(self, tmp_path, no_fits):
        """The fits of jobs differ by rounding; the toys do not."""
        first = one_test(store=tmp_path)
        no_fits()
        start = PARAMS | {"mu": mx.Parameter(0.3, lower=0.0, upper=20.0), "b": mx.Parameter(1.3, lower=0.1)}
        again = mx.hypotest(NLL, start, DATA, "mu", 1.0, calculator=toys(store=tmp_path))
        same(again.toys, first.toys)
        assert not np.array_equal(again.fits.free.values, first.fits.free.values)


class TestValues:
    def test_of_a_line(self):
        """log p-values that are straight lines have their exact roots."""
        heights = {
            d: Heights(np.array([2.0 - d, 0.5 - d, 9.0 - d]), np.array([0.1, 0.2, 0.1])) for d in (1.0, 1.7, 4.0)
        }
        roots = roots_between(heights, np.inf, 3)
        np.testing.assert_allclose([r.distance for r in roots], [2.0, np.nan, np.nan])
        np.testing.assert_allclose(roots[0].error, 0.1)
        assert [r.status for r in roots] == [LimitStatus.FOUND, LimitStatus.OUTSIDE_VALUES, LimitStatus.OUTSIDE_VALUES]
        assert roots_between(heights, 4.0, 3)[2].status == LimitStatus.BEYOND_BOUND

    @pytest.mark.parametrize(
        ("points", "status"),
        [
            ({0.0: -1.0, 1.0: -2.0}, LimitStatus.NONE_ALLOWED),
            ({1.0: 1.0, 2.0: np.nan, 3.0: -1.0}, LimitStatus.FIT_FAILED),
            ({1.0: 1.0, 2.0: np.nan}, LimitStatus.FIT_FAILED),
            ({1.0: np.nan, 2.0: -1.0}, LimitStatus.FIT_FAILED),
            ({1.0: 1.0, 2.0: -1.0, 3.0: np.nan}, LimitStatus.FOUND),
            ({1.0: 1.0, 2.0: -1.0, 3.0: 1.0, 4.0: -1.0}, LimitStatus.FOUND),
        ],
    )
    def test_status(self, points, status):
        heights = {d: Heights(np.array([h]), np.array([0.1])) for d, h in points.items()}
        root = roots_between(heights, np.inf, 1)[0]
        assert root.status == status
        assert np.isfinite(root.distance) == (status == LimitStatus.FOUND)
        if len(points) == 4:  # as for a search, the last crossing counts
            assert root.distance == 3.5

    def test_near_the_search(self):
        """A limit between given values is that of a search, within the error of the toys."""
        many = mx.Toys(2000, KEY)
        found = mx.upper_limit(NLL, PARAMS, DATA, "mu", calculator=many)
        given = mx.upper_limit(NLL, PARAMS, DATA, "mu", values=np.linspace(0.4, 4.0, 10), calculator=many)
        assert bool(given.valid)
        for a, b, error in (
            (found.observed, given.observed, found.observed_error),
            (found.expected, given.expected, found.expected_error),
        ):
            assert np.all(np.abs(a - b) < 2 * error)

    def test_outside(self):
        found = mx.upper_limit(NLL, PARAMS, DATA, "mu", values=[0.1, 0.2], calculator=toys())
        assert int(found.status) == LimitStatus.OUTSIDE_VALUES
        assert np.isnan(found.observed)
        assert "outside values" in repr(found)
        ends = mx.interval(NLL, PARAMS, DATA, "mu", values=[8.0, 9.0], calculator=toys())
        assert int(ends.upper_status) == int(ends.lower_status) == LimitStatus.OUTSIDE_VALUES
        assert not bool(ends.valid)

    @pytest.mark.parametrize(
        ("values", "match"),
        [
            ([-1.0, 2.0], "between 0 and 20, got -1 to 2"),
            ([1.0, 21.0], "between 0 and 20, got 1 to 21"),
            ([], "numbers in one axis"),
            (1.0, "numbers in one axis"),
            ([np.nan], "numbers in one axis"),
        ],
    )
    def test_bad(self, values, match):
        with pytest.raises(ValueError, match=match):
            mx.upper_limit(NLL, PARAMS, DATA, "mu", values=values, calculator=toys())
        with pytest.raises(ValueError, match=match):
            mx.interval(NLL, PARAMS, DATA, "mu", values=values, calculator=toys())

    def test_without_toys(self):
        for call in (mx.upper_limit, mx.interval):
            with pytest.raises(ValueError, match="those at which toys are made"):
                call(NLL, PARAMS, DATA, "mu", values=VALUES)


class TestRefused:
    @pytest.mark.parametrize("call", [mx.upper_limit, mx.interval])
    def test_a_search_of_a_shard(self, call):
        with pytest.raises(ValueError, match=r"all jobs make toys, \w+\(..., values="):
            call(NLL, PARAMS, DATA, "mu", calculator=toys(shard=(0, 2)))

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"shard": (2, 2)}, "i from 0 to n - 1"),
            ({"shard": (0, 6)}, "at most 5 shards"),
            ({"batch_size": 0}, "at least 1"),
            ({"batch_size": 2.5}, "whole number"),
        ],
    )
    def test_options(self, options, match):
        with pytest.raises(ValueError, match=match):
            toys(**options)

    def test_in_jit(self, tmp_path):
        with pytest.raises(TypeError, match=r"outside of jax\.jit"):
            jax.jit(lambda v: mx.hypotest(NLL, PARAMS, DATA, "mu", v, calculator=toys(store=tmp_path)).cls)(1.0)
        assert not list(tmp_path.iterdir())

    def test_for_fits(self, tmp_path):
        with pytest.raises(ValueError, match="fit_toys has arguments of its own"):
            mx.fit_toys(NLL, PARAMS, toys(store=tmp_path), data=DATA)

    def test_a_store_of_fits(self, tmp_path):
        mx.fit_toys(NLL, PARAMS, mx.Toys(20, KEY), data=DATA, store=tmp_path)
        with pytest.raises(ValueError, match=r"is of mx\.fit_toys"):
            one_test(store=tmp_path)
        with pytest.raises(ValueError, match=r"is of mx\.fit_toys"):
            mx.profile(NLL, mx.fit(NLL, PARAMS, DATA), DATA, "mu", store=tmp_path)

    def test_another_point(self, tmp_path, monkeypatch):
        one_test(store=tmp_path)
        monkeypatch.setattr(stored.Hypotheses, "settled", lambda self, toys, at, is_free=False: moved(at))

        def moved(at):
            return at | {"b": mx.Parameter(at["b"].value + 0.01, lower=0.1)}

        with pytest.raises(ValueError, match="drawn at another point"):
            one_test(store=tmp_path)

    def test_merged(self, tmp_path):
        for i in range(2):
            one_test(store=tmp_path / str(i), shard=(i, 2))
        folders = [tmp_path / "0", tmp_path / "1"]
        lost = next((tmp_path / "1").iterdir())
        damaged = next((tmp_path / "0" / lost.name).glob("batch*"))
        damaged.write_bytes(damaged.read_bytes()[:-9])
        shutil.rmtree(lost)
        with pytest.raises(ValueError, match="cannot be merged") as error:
            mx.merge([*folders, tmp_path / "2"], tmp_path / "all")
        text = str(error.value)
        assert f"{tmp_path / '2'} is no folder" in text
        assert f"{damaged} is damaged" in text
        assert re.search(r"batches of QTilde of mu = 1, toys of mu = [01] that are in none of the stores: 2 to 4", text)
        assert not (tmp_path / "all").exists()
        with pytest.warns(UserWarning, match="left out"):
            merged = mx.merge([*folders, tmp_path / "2"], tmp_path / "all", leave_out=True)
        assert sorted(map(len, merged.studies)) == [32, N] or sorted(map(len, merged.studies)) == [64, N]
        whole = one_test(store=tmp_path / "all")  # makes what is missing
        same(whole, one_test(store=tmp_path / "whole"))


RESULT = mx.fit(NLL, PARAMS, DATA)


class TestMergedByMistake:
    @pytest.mark.parametrize(
        ("job", "differ"),
        [
            (lambda **o: mx.hypotest(NLL, PARAMS, DATA | {"b": 1.03}, "mu", 1.0, calculator=toys(**o)), "data"),
            (lambda **o: mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, calculator=seeded(9, **o)), "toys"),
        ],
    )
    def test_another_job(self, job, differ, tmp_path):
        """The one that differs is named, and left out."""
        folders = [tmp_path / str(i) for i in range(3)]
        for i, folder in enumerate(folders):
            (job if i == 1 else one_test)(store=folder, shard=(i, 3))
        with pytest.raises(ValueError, match="cannot be merged") as error:
            mx.merge(folders, tmp_path / "all")
        assert f"{folders[1]} is of another study than {folders[0]}: other {differ}" in str(error.value)
        assert "and 1 other study that are in none of the stores: 1 to 2 (of shard 1 of 3)" in str(error.value)
        with pytest.warns(UserWarning, match=f"other {differ}"):
            merged = mx.merge(folders, leave_out=True)
        assert [len(study) for study in merged.studies] == [96, 96]

    def test_two_data_in_each_folder(self, tmp_path):
        """They are two studies, of which no one is left out."""
        for i in range(2):
            one_test(store=tmp_path / str(i), shard=(i, 2))
            how = toys(store=tmp_path / str(i), shard=(i, 2))
            with pytest.warns(UserWarning, match="other data"):
                mx.hypotest(NLL, PARAMS, DATA | {"b": 1.03}, "mu", 1.0, calculator=how)
        merged = mx.merge([tmp_path / "0", tmp_path / "1"])
        assert [len(study) for study in merged.studies] == [N] * 4

    def test_another_fit(self, tmp_path):
        for i in range(2):
            start = PARAMS | {"mu": mx.Parameter(0.2 + i, lower=0.0, upper=20.0)}
            result = mx.fit(NLL, start, DATA)
            mx.profile(NLL, result, DATA, "mu", np.linspace(0.5, 2.0, 4), store=tmp_path / str(i), shard=(i, 2))
        with pytest.raises(ValueError, match="other result; the result must be the same to the last bit: save the fit"):
            mx.merge([tmp_path / "0", tmp_path / "1"])

    def test_two_kinds(self, tmp_path):
        one_test(store=tmp_path / "test")
        mx.fit_toys(NLL, PARAMS, mx.Toys(20, KEY), data=DATA, store=tmp_path / "fits")
        for stores, into in ((["test", "fits"], None), (["test"], "fits"), (["fits"], "test")):
            with pytest.raises(
                ValueError, match=r"fits hold fits of mx\.fit_toys, .*test toys of tests .* each kind alone"
            ):
                mx.merge([tmp_path / name for name in stores], None if into is None else tmp_path / into)


def seeded(seed, **options):
    return mx.Toys(N, jax.random.key(seed), batch_size=SIZE, **options)


class TestProfiles:
    @pytest.mark.parametrize(
        ("where", "grid"),
        [("mu", np.linspace(0.1, 4.0, 13)), (["mu", "b"], (np.linspace(0.2, 3.0, 7), np.linspace(0.8, 1.2, 5)))],
    )
    def test_merged(self, where, grid, tmp_path, monkeypatch):
        def along(**options):
            return mx.profile(NLL, RESULT, DATA, where, grid, batch_size=3, **options)

        whole, plain = along(store=tmp_path / "whole"), mx.profile(NLL, RESULT, DATA, where, grid)
        parts = [along(store=tmp_path / str(i), shard=(i, 2)) for i in range(2)]
        merged = mx.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "all")
        assert [len(study) for study in merged.studies] == [
            len(np.atleast_1d(grid[0] if isinstance(grid, tuple) else grid))
        ]
        monkeypatch.setattr("migrax._profile.profile.retry", None)
        again = along(store=tmp_path / "all")
        same(again, whole)
        np.testing.assert_allclose(whole.rise, plain.rise, atol=1e-7)
        np.testing.assert_allclose(whole.points, plain.points, atol=1e-5)
        np.testing.assert_allclose(np.concatenate([p.rise for p in parts]), plain.rise, atol=1e-7)
        assert parts[0].grid[0].size < whole.grid[0].size == parts[0].grid[0].size + parts[1].grid[0].size

    def test_beside_tests(self, tmp_path):
        """A folder may hold the studies of one analysis."""
        one_test(store=tmp_path)
        mx.profile(NLL, RESULT, DATA, "mu", 8, store=tmp_path)
        there = mx.open_store(tmp_path)
        assert [study.what for study in there.studies][-1] == "profile of mu"
        assert there.studies[-1].values.shape == there.studies[-1].status.shape == (8,)

    def test_another_result(self, tmp_path):
        mx.profile(NLL, RESULT, DATA, "mu", 8, store=tmp_path)
        with pytest.warns(UserWarning, match="holds the same of other grid"):
            mx.profile(NLL, RESULT, DATA, "mu", 9, store=tmp_path)
        mx.profile(NLL, RESULT, DATA, "b", 8, store=tmp_path)
        assert len(mx.open_store(tmp_path).studies) == 3

    def test_refused(self, tmp_path):
        with pytest.raises(ValueError, match="at most 4 shards"):
            mx.profile(NLL, RESULT, DATA, "mu", 8, batch_size=2, shard=(0, 5), store=tmp_path)
        with pytest.raises(ValueError, match="i from 0"):
            mx.profile(NLL, RESULT, DATA, "mu", 8, shard=(5, 5))
        with pytest.raises(TypeError, match=r"inside jax.jit"):
            jax.jit(lambda data: mx.profile(NLL, RESULT, data, "mu", 8, store=tmp_path).rise)(DATA)
        assert not list(tmp_path.iterdir())


class TestFoundByAReader:
    """Each of these was wrong once."""

    @pytest.mark.parametrize("unit", [1e-7, 1.0])
    def test_small_units(self, unit, tmp_path):
        """The point at which toys are drawn is known to a fraction of its errors, also where the fit has none."""

        def rates(p):
            return p["s"] * 10 * jnp.exp(-0.5 * (jnp.arange(8.0) - p["at"]) ** 2) + p["b"] / unit * 30

        nll = mx.PoissonNLL(rates)
        start = BUMP_START | {"b": mx.Parameter(unit, lower=0.0)}

        def found(**options):
            grid = np.linspace(2.0, 5.0, 3)
            return mx.look_elsewhere(nll, start, BUMP_DATA, "s", "at", grid, toys(**options), level=0.3)

        plain, kept = found(), found(store=tmp_path)
        assert np.mean(~np.isclose(plain.toys, kept.toys, rtol=1e-3, atol=1e-3)) < 0.02
        # a parameter at its bound has no error
        at_bound = jnp.array([0.0, 1.0, 0.0, 8.0, 9.0, 0.0, 0.0, 1.0])
        for i, options in enumerate(({}, {"store": tmp_path})):
            test = mx.hypotest(
                nll, start | {"at": jnp.array(3.5)}, at_bound, "s", 1.0, statistic=mx.TMu(), calculator=toys(**options)
            )
            if i == 0:
                first = test
        assert np.mean(~np.isclose(first.toys.tested.values, test.toys.tested.values, rtol=1e-3, atol=1e-3)) < 0.02

    def test_a_period(self, tmp_path):
        """It wraps what is fitted, and so is part of the problem."""
        nll = mx.PoissonNLL(lambda p: 20 + 8 * jnp.cos(jnp.arange(6.0) - p["phi"]))
        data = jnp.array([25.0, 24.0, 16.0, 12.0, 14.0, 22.0])
        for i, parameter in enumerate(
            (mx.Parameter(0.9, period=2 * np.pi), mx.Parameter(0.9, lower=0.0, period=2 * np.pi), mx.Parameter(0.9))
        ):
            calculator = mx.Toys(32, KEY, alternative=3.0, store=tmp_path)
            if i == 0:
                mx.hypotest(nll, {"phi": parameter}, data, "phi", 0.5, statistic=mx.QMu(), calculator=calculator)
            else:
                with pytest.warns(UserWarning, match="of other parameters"):
                    mx.hypotest(nll, {"phi": parameter}, data, "phi", 0.5, statistic=mx.QMu(), calculator=calculator)
            assert len(mx.open_store(tmp_path).studies) == 2 * (i + 1)

    def test_two_minima(self, tmp_path):
        """What is found lower at one value changes no statistic at others, which another job may have made."""

        def value(p, d):
            return (
                0.5 * jnp.sum((p["t"] ** 2 - 1.0 + 0.3 * p["t"] - d["x"]) ** 2) + 0.5 * (p["mu"] - p["t"] - d["y"]) ** 2
            )

        def sample(p, key):
            draws = jax.random.normal(key, (2,))
            return {"x": p["t"] ** 2 - 1.0 + 0.3 * p["t"] + draws[0], "y": p["mu"] - p["t"] + draws[1]}

        nll = mx.Likelihood(value, sample=sample)
        params = {"mu": mx.Parameter(0.5, lower=-5.0, upper=10.0), "t": mx.Parameter(1.0)}
        data = {"x": jnp.array(0.3), "y": jnp.array(-0.4)}

        def find(values, store):
            how = toys(store=store, alternative=0.0)
            return mx.upper_limit(nll, params, data, "mu", values=values, statistic=mx.QMu(), calculator=how)

        find([0.5, 1.0, 2.0, 3.0], tmp_path / "whole")
        find([0.5, 1.0], tmp_path / "some")
        find([0.5, 1.0, 2.0, 3.0], tmp_path / "some")
        assert checksums(tmp_path / "some") == checksums(tmp_path / "whole")

    def test_nothing_is_allowed(self):
        """At no signal a one-sided p-value is 1: between it and the first value there is no line."""
        few = DATA | {"main": jnp.array([25.0, 20.0, 15.0])}
        found = mx.upper_limit(
            NLL, PARAMS, few, "mu", cls=False, values=[0.0, 0.3, 0.6, 1.0, 2.0], calculator=mx.Toys(200, KEY)
        )
        assert int(found.status) == LimitStatus.OUTSIDE_VALUES

    def test_a_bend(self):
        """A parabola through three points is known; without a third, the error has an eighth of the bracket."""
        curve = lambda x: 2.0 - 0.5 * x**2  # noqa: E731  # with its root at 2
        seen = {x: Heights(np.array([curve(x)]), np.array([1e-9])) for x in (1.0, 2.5, 3.0)}
        root = roots_between(seen, np.inf, 1)[0]
        assert abs(root.distance - 2.0) < 1.2 * root.error < 0.3
        two = roots_between({x: seen[x] for x in (1.0, 2.5)}, np.inf, 1)[0]
        np.testing.assert_allclose(two.error, 1.5 / 8)

    def test_numbers_of_numpy(self, tmp_path):
        plain = one_test(store=tmp_path)
        how = mx.Toys(np.int64(N), KEY, batch_size=np.int64(SIZE), first=np.int64(0), store=tmp_path)
        same(mx.hypotest(NLL, PARAMS, DATA, "mu", 1.0, calculator=how).toys, plain.toys)
        assert len(mx.open_store(tmp_path).studies) == 2
        assert mx.Toys(10, KEY, batch_size=2.0).size == 2
        fits = mx.fit_toys(NLL, PARAMS, mx.Toys(8, KEY), data=DATA, store=tmp_path / "fits", batch_size=np.int64(4))
        assert len(fits.values) == 8
        for bad in ("a", np.nan, True, [2]):
            with pytest.raises(ValueError, match="batch_size must be a whole number"):
                mx.Toys(10, KEY, batch_size=bad)

    def test_one_study_alone(self, tmp_path):
        one_test(store=tmp_path)
        (one, two) = (study.path for study in mx.open_store(tmp_path).studies)
        with pytest.raises(ValueError, match="is one study of several: open the folder"):
            mx.open_store(one)
        with pytest.raises(ValueError, match="hold single studies: merge the folders"):
            mx.merge([one, two])

    @pytest.mark.parametrize(
        "wrong", [{"n": "abc"}, {"n": -5}, {"batch_size": 0}, {"problem": 3}, {"about": {"what": "x", "point": "x"}}]
    )
    def test_a_damaged_manifest(self, wrong, tmp_path):
        one_test(store=tmp_path)
        manifest = mx.open_store(tmp_path).studies[0].path / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | wrong))
        for call in (lambda: mx.open_store(tmp_path), lambda: mx.merge([tmp_path]), lambda: one_test(store=tmp_path)):
            with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
                call()

    def test_into_something_else(self, tmp_path):
        one_test(store=tmp_path / "a")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "notes.txt").write_text("x")
        with pytest.raises(ValueError, match="is no store of tests, but holds something else"):
            mx.merge([tmp_path / "a"], tmp_path / "b")

    def test_other_batches_beside(self, tmp_path):
        first = mx.upper_limit(NLL, PARAMS, DATA, "mu", values=[1.0], calculator=toys(store=tmp_path))
        mx.upper_limit(NLL, PARAMS, DATA, "mu", values=[2.0], calculator=toys(store=tmp_path, batch_size=80))
        both = mx.upper_limit(NLL, PARAMS, DATA, "mu", values=[1.0, 2.0], calculator=mx.Toys(N, KEY, store=tmp_path))
        assert int(first.status) == LimitStatus.OUTSIDE_VALUES
        assert np.isfinite(both.expected[2])

    @pytest.mark.parametrize("values", ["ab", [1j], [[1.0], [1.0, 2.0]], [1.0, "x"]])
    def test_values_that_are_none(self, values):
        with pytest.raises(ValueError, match="values must be numbers in one axis"):
            mx.upper_limit(NLL, PARAMS, DATA, "mu", values=values, calculator=toys())


class TestExecutor:
    """Batches in the workers of an executor: the bits of those that are made here."""

    @pytest.mark.parametrize("call", CALLS)
    def test_threads(self, call, tmp_path, no_fits):
        wanted = call(store=tmp_path / "here")
        with ThreadPoolExecutor(2) as executor:
            same(call(executor=executor), wanted)
            same(call(executor=executor, store=tmp_path / "there"), wanted)
        assert checksums(tmp_path / "there") == checksums(tmp_path / "here")
        assert not list(tmp_path.glob("*/*/.claim-*"))
        no_fits()
        same(call(store=tmp_path / "there"), wanted)

    def test_a_shard(self):
        with ThreadPoolExecutor(2) as executor:
            same(one_test(executor=executor, shard=(1, 3)).toys, one_test(shard=(1, 3)).toys)

    @pytest.mark.slow  # starts processes, which compile all of it
    def test_processes(self, tmp_path):
        wanted = limit(store=tmp_path / "here")
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
            same(limit(executor=executor, store=tmp_path / "there"), wanted)

    def test_one_that_dies(self, tmp_path):
        wanted = one_test(store=tmp_path / "here")
        with Dying(1) as executor, pytest.raises(RuntimeError, match=r"the executor died .* with another executor"):
            one_test(executor=executor, store=tmp_path / "there")
        kept = checksums(tmp_path / "there")
        assert len(kept) >= 2
        assert kept.items() <= checksums(tmp_path / "here").items()
        assert not list(tmp_path.glob("*/*/.claim-*"))
        same(one_test(store=tmp_path / "there"), wanted)

    def test_progress(self, capsys, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        with ThreadPoolExecutor(1) as executor:
            one_test(executor=executor, progress=True)
        assert f"{2 * N}/{2 * N}" in capsys.readouterr().err

    def test_refused(self, monkeypatch):
        with pytest.raises(TypeError, match=r"executor takes a concurrent\.futures\.Executor.*got int"):
            toys(executor=4)
        monkeypatch.setitem(sys.modules, "cloudpickle", None)
        with ThreadPoolExecutor(1) as executor:
            with pytest.raises(ValueError, match="not both"):
                toys(executor=executor, mesh=jax.make_mesh((1,), ("toys",)))
            with pytest.raises(TypeError, match=r"outside of jax\.jit"):
                jax.jit(lambda v: mx.hypotest(NLL, PARAMS, DATA, "mu", v, calculator=toys(executor=executor)).cls)(1.0)
            with pytest.raises(ValueError, match=r"mx\.Toys\(batch_size=...\) is for tests"):
                mx.fit_toys(NLL, PARAMS, toys(executor=executor), data=DATA)
            nll = mx.PoissonNLL(lambda p: rates(p))
            with pytest.raises(TypeError, match="the likelihood cannot be sent to the workers"):
                mx.hypotest(nll, PARAMS, DATA["main"], "mu", 1.0, calculator=toys(executor=executor))


def test_a_full_disk(tmp_path, monkeypatch):
    """What was stored before is kept, and the same call goes on."""
    wanted, save, left = one_test(store=tmp_path / "here"), np.savez, [3]

    def savez(*args, **arrays):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        save(*args, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", savez)
        with pytest.raises(OSError, match="No space left on device"):
            one_test(store=tmp_path / "there")
    assert len(checksums(tmp_path / "there")) == 3
    assert not list(tmp_path.glob("*/*/.claim-*"))
    same(one_test(store=tmp_path / "there"), wanted)
    assert checksums(tmp_path / "there") == checksums(tmp_path / "here")
