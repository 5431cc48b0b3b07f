"""Studies of toys in parts: shards and their merging, jobs that share a store, extension, what a store says."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hs3
import migrax as mx
from command_line import run as command
from migrax._stores.batch_file import digest
from migrax._stores.claims import EXPIRED, Claims
from migrax._toys import scheduler
from toy_jobs import same, started

TEMPLATE = jnp.array([3.0, 8.0, 5.0])
PARAMS = {"mu": mx.Parameter(1.0, lower=0.0), "b": mx.Parameter(20.0, lower=0.0)}
KEY = jax.random.key(3)
N, SIZE, SHARDS = 1000, 64, 4  # 16 batches, of which the last has 40 toys
HIFA = hs3.FOLDER / "pairs" / "simplemodel_uncorrelated-background_hifa.json"


NLL = mx.PoissonNLL(lambda p: p["mu"] * TEMPLATE + p["b"])


def run(path=None, n=N, key=KEY, first=0, reduce=None, **options):
    toys, options = mx.Toys(n, key, first=first), {"batch_size": SIZE, "store": path} | options
    if reduce is None:
        return mx.fit_toys(NLL, PARAMS, toys, **options)
    return mx.reduce_toys(reduce, NLL, PARAMS, toys, **options)


@pytest.fixture(scope="module")
def reference():
    return run()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The stores of all shards. Not to be changed."""
    folder = tmp_path_factory.mktemp("shards")
    for i in range(SHARDS):
        run(folder / str(i), shard=(i, SHARDS))
    return [folder / str(i) for i in range(SHARDS)]


@pytest.fixture
def stores(made, tmp_path):
    return [Path(shutil.copytree(path, tmp_path / path.name)) for path in made]


def batch(stores, i):
    return stores[i * SHARDS // 16] / f"batch-{i:06d}.npz"


class TestShards:
    def test_merged(self, stores, reference, tmp_path):
        merged = mx.merge(stores, tmp_path / "all")
        same((merged.values, merged.errors, merged.nll), (reference.values, reference.errors, reference.nll))
        assert (len(merged), merged.n, merged.missing, merged.names) == (N, N, (), ("b", "mu"))
        times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "all").glob("batch-*"))]
        same(run(tmp_path / "all"), reference)  # read, not fitted
        assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "all").glob("batch-*"))] == times
        whole = run(tmp_path / "whole")
        same(whole, reference)
        for path in (tmp_path / "whole").glob("batch-*"):
            ours, theirs = (np.load(folder / path.name) for folder in (tmp_path / "whole", tmp_path / "all"))
            assert str(ours["checksum"]) == str(theirs["checksum"])

    def test_of_a_shard(self, reference):
        fits = run(shard=(1, SHARDS))
        same(fits, jax.tree.map(lambda a: a[256:512] if np.ndim(a) and len(a) == N else a, reference))
        sums = [run(shard=(i, 3), reduce=lambda fits: len(fits.values)) for i in range(3)]
        assert [len(s) for s in sums] == [5, 5, 6]
        assert sum(map(sum, sums)) == N

    def test_without_a_folder(self, stores, reference):
        merged = mx.merge(stores[::-1])
        assert merged.path is None
        same(merged.values, reference.values)
        same(merged.numbers, np.arange(N))

    @pytest.mark.parametrize("shard", [(4, 4), (-1, 4), (0, 0), (0, 17), (1,), (0.5, 2), "1/2", 3])
    def test_out_of_range(self, shard):
        with pytest.raises(ValueError, match=r"shard is \(i, n\)|at most 16 shards"):
            run(shard=shard)

    def test_the_size_of_the_store(self, stores):
        assert len(run(stores[1], shard=(1, SHARDS), batch_size=None).values) == 256

    def test_no_claims(self, stores):
        """The store of a shard is that of one job, which may have been elsewhere before."""
        (stores[0] / ".claim-000001").write_text(json.dumps({"machine": "another", "process": 1}))
        batch(stores, 1).unlink()
        assert len(run(stores[0], shard=(0, SHARDS)).values) == 256

    def test_the_default_size(self):
        with pytest.raises(ValueError, match="2 shards of a study of 1 batches of 1000 toys"):
            run(shard=(0, 2), batch_size=None)


def merged_but(what, *args):
    with pytest.warns(UserWarning, match=rf"left out of the merged store:[^$]*{what}"):
        return mx.merge(*args, leave_out=True)


class TestFaults:
    def test_missing(self, stores, reference, tmp_path):
        batch(stores, 9).unlink()
        shutil.rmtree(stores[0])
        missing = r"0 is no folder\nbatches that are in none of the stores: 0 to 3, 9"
        with pytest.raises(ValueError, match=missing):
            mx.merge(stores, tmp_path / "all")
        assert not (tmp_path / "all").exists()
        merged = merged_but(missing, stores, tmp_path / "all")
        assert merged.missing == (0, 1, 2, 3, 9)
        same(merged.values, reference.values[np.asarray(merged.numbers)])
        same(run(tmp_path / "all", batch_size=None), reference)  # fits what is missing

    def test_double(self, stores, tmp_path):
        shutil.copy(batch(stores, 3), stores[2])
        assert len(mx.merge(stores)) == N  # the same numbers
        other = run(tmp_path / "other", shard=(0, SHARDS))
        assert len(other.values) == 256
        assert len(mx.merge([*stores, tmp_path / "other"])) == N

    def test_double_with_other_numbers(self, stores):
        path = stores[2] / "batch-000003.npz"
        with np.load(batch(stores, 3)) as file:
            parts = dict(file)
        parts["values"] = parts["values"] + 1e-9
        contents = {name: a for name, a in parts.items() if name not in ("identity", "checksum")}
        np.savez(path, **(parts | {"checksum": np.array(digest(str(parts["identity"]), contents))}))
        fault = r"batch-000003\.npz and .*batch-000003\.npz hold the same toys .* leave out one of the stores"
        with pytest.raises(ValueError, match=fault) as info:
            mx.merge(stores)
        assert "in none of the stores" not in str(info.value)
        assert merged_but(fault, stores).missing == (3,)
        into_one_of_them = merged_but(fault, stores, stores[2])
        assert into_one_of_them.missing == (3,)
        assert len(into_one_of_them.values) == N - SIZE

    def test_foreign(self, stores, tmp_path):
        """The study that most of the stores are of counts, whatever their order."""
        run(tmp_path / "foreign", key=jax.random.key(4), shard=(1, SHARDS))
        fault = r"foreign is of another study than .*0: other toys"
        with pytest.raises(ValueError, match=fault):
            mx.merge([*stores, tmp_path / "foreign"], tmp_path / "all")
        assert len(merged_but(fault, [tmp_path / "foreign", *stores], tmp_path / "all")) == N
        shutil.copy(tmp_path / "foreign" / "batch-000004.npz", stores[1])
        with pytest.raises(ValueError, match=r"batch-000004\.npz is of another study"):
            mx.merge(stores)
        assert merged_but("another study", stores).missing == (4,)

    def test_of_a_study_that_was_extended(self, stores, tmp_path):
        """One job was submitted with more toys."""
        mx.merge(stores, tmp_path / "all")
        wanted = run(n=1500)
        run(stores[3], n=1500, batch_size=None)
        merged = mx.merge([*stores[:3], stores[3]], tmp_path / "all")
        assert (merged.n, merged.missing) == (1500, ())
        same(merged.values, wanted.values)
        assert mx.open_store(tmp_path / "all").n == 1500

    def test_damaged(self, stores, reference, tmp_path):
        whole = batch(stores, 11).read_bytes()
        batch(stores, 11).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"batch-000011\.npz is damaged") as info:
            mx.merge(stores, tmp_path / "all")
        assert "in none of the stores" not in str(info.value)
        merged_but("damaged", stores, tmp_path / "all")
        same(run(tmp_path / "all"), reference)

    def test_other_versions(self, stores):
        manifest = stores[1] / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"jax": "0.1.0"}))
        with pytest.raises(ValueError, match=r"was written with jax 0\.1\.0"):
            mx.merge(stores)

    def test_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="got none"):
            mx.merge([])
        with pytest.raises(ValueError, match="is no store"):
            mx.merge([tmp_path])

    def test_a_folder_with_something_else(self, stores, tmp_path):
        (tmp_path / "all").mkdir()
        (tmp_path / "all" / "notes.txt").write_text("mine")
        with pytest.raises(ValueError, match="something else"):
            mx.merge(stores, tmp_path / "all")

    def test_a_full_disk(self, stores, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match=r"batch-000000\.npz cannot be written .* call merge again"):
            mx.merge(stores, tmp_path / "all")


class TestExtension:
    def test_more_toys(self, stores, tmp_path):
        mx.merge(stores, tmp_path / "all")
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "all").glob("batch-*")}
        more = run(tmp_path / "all", n=1500, batch_size=None)
        same(more, run(n=1500))
        kept = [n for n, t in before.items() if (tmp_path / "all" / n).stat().st_mtime_ns == t]
        assert len(kept) == 15  # all but the last, which had 40 toys
        assert mx.open_store(tmp_path / "all").missing == ()
        with pytest.raises(ValueError, match="is of 1500 toys, these are 1000: ask for as many or more"):
            run(tmp_path / "all", batch_size=None)

    def test_interrupted(self, tmp_path):
        run(tmp_path / "all")

        def stop(fits):
            raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            run(tmp_path / "all", n=1200, reduce=stop)
        assert not list((tmp_path / "all").glob(".claim-*"))
        assert mx.open_store(tmp_path / "all").n == 1200
        same(run(tmp_path / "all", n=1200), run(n=1200))

    def test_first(self, reference):
        same(run(n=500, first=500).values, reference.values[500:])
        with pytest.raises(ValueError, match="first is the number of the first toy"):
            mx.Toys(10, KEY, first=-1)

    def test_first_of_a_test(self):
        counts = jnp.array([25.0, 29.0, 24.0])
        result = mx.fit(NLL, PARAMS, counts)

        def p_values(n, first=0):
            toys = mx.Toys(n, KEY, first=first)
            test = mx.hypotest(NLL, result, counts, "mu", 1.5, calculator=toys)
            return np.array([float(test.p_sb), float(test.p_b)])

        halves = [p_values(100, first) for first in (0, 100)]
        np.testing.assert_allclose(np.mean(halves, axis=0), p_values(200), rtol=1e-12)


class TestOpenStore:
    def test_of_a_shard(self, made):
        store = mx.open_store(str(made[1]))
        assert (store.batches, len(store), store.n, store.batch_size) == ((4, 5, 6, 7), 256, N, SIZE)
        assert store.missing == (0, 1, 2, 3, *range(8, 16))
        assert store.values.shape == store.errors.shape == (256, 2)
        assert np.all(store.valid == (store.status == 0))
        text = str(store)
        assert "256 of 1000, 256 valid" in text
        assert "mu" in text
        assert "<table>" in store._repr_html_()

    def test_while_it_grows(self, tmp_path):
        seen = []
        run(tmp_path / "toys", reduce=lambda fits: seen.append(len(mx.open_store(tmp_path / "toys"))))
        assert seen[0] >= 64
        assert seen == sorted(seen)
        assert len(mx.open_store(tmp_path / "toys")) == N

    def test_empty(self, stores):
        for path in stores[0].glob("batch-*"):
            path.unlink()
        store = mx.open_store(stores[0])
        assert (len(store), store.names, store.values.shape, store.nll.shape) == (0, (), (0, 0), (0,))
        assert "0 of 1000" in str(store)

    def test_bad_input(self, tmp_path, stores):
        with pytest.raises(FileNotFoundError, match="there is no store"):
            mx.open_store(tmp_path / "nothing")
        with pytest.raises(ValueError, match="is no store"):
            mx.open_store(tmp_path)
        batch(stores, 0).write_bytes(b"PK")
        with pytest.raises(ValueError, match="damaged"):
            str(mx.open_store(stores[0]))


class TestClaims:
    def test_says_for_whom_it_waits(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scheduler, "LOOK", 0.01)
        monkeypatch.setattr(scheduler, "TELL", 0.02)
        run(tmp_path, n=2 * SIZE)
        (tmp_path / "batch-000001.npz").unlink()
        claim = tmp_path / ".claim-000001"
        claim.write_text(json.dumps({"machine": "node7", "process": 4711}))
        threading.Timer(1.0, claim.unlink).start()
        with pytest.warns(UserWarning, match="waiting for batch 1 of .* which process 4711 of node7 fits"):
            run(tmp_path, n=2 * SIZE)

    def test_of_others(self, tmp_path):
        ours, theirs = Claims(tmp_path), Claims(tmp_path)
        assert ours.take(3)
        assert not theirs.take(3)
        ours.give_back(3)
        assert theirs.take(3)
        theirs.give_back_all()
        assert not list(tmp_path.iterdir())

    def test_of_the_dead(self, tmp_path):
        process = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
        )
        dead = {"machine": socket.gethostname(), "process": int(process.stdout)}
        (tmp_path / ".claim-000001").write_text(json.dumps(dead))
        elsewhere = tmp_path / ".claim-000002"
        elsewhere.write_text(json.dumps(dead | {"machine": "another"}))
        ours = Claims(tmp_path)
        assert ours.take(1)
        assert not ours.take(2)
        long_ago = time.time() - 2 * EXPIRED
        os.utime(elsewhere, (long_ago, long_ago))
        assert ours.take(2)
        ours.give_back_all()

    def test_two_jobs_share_the_work(self, tmp_path, reference):
        """Both return all fits, and no batch is fitted twice."""
        written, results = [], {}
        write = mx._stores.store.Store.write

        def counted(self, i, fits):
            written.append(i)
            write(self, i, fits)

        run(tmp_path / "toys", n=SIZE, batch_size=SIZE)  # compiled
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mx._stores.store.Store, "write", counted)
            jobs = [threading.Thread(target=lambda k=k: results.update({k: run(tmp_path / "both")})) for k in range(2)]
            for job in jobs:
                job.start()
            for job in jobs:
                job.join()
        assert sorted(written) == list(range(16))
        same(results[0], reference)
        same(results[1], reference)
        assert not list((tmp_path / "both").glob(".claim-*"))


@pytest.mark.slow
def test_jobs_that_die(tmp_path, reference):
    """Of 20 jobs three are killed at any moment and a file is damaged; what is missing is submitted again."""
    script = (
        "import sys, time, test_shards as t\n"
        "print('ready', flush=True)\n"
        "t.run(sys.argv[1], batch_size=8, shard=(int(sys.argv[2]), 20), reduce=lambda _: time.sleep(0.1))\n"
    )
    stores = [tmp_path / str(i) for i in range(20)]
    rng = np.random.default_rng(5)
    for i in range(20):
        if i not in (2, 7, 19):
            run(stores[i], batch_size=8, shard=(i, 20))
            continue
        with started(script, stores[i], i) as process:
            time.sleep(rng.uniform(1.0, 5.0))
            process.kill()
    file = next(stores[5].glob("batch-*"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{file.name} is damaged"):
        mx.merge(stores, tmp_path / "all")
    file.unlink()
    for i in (2, 5, 7, 19):
        run(stores[i], batch_size=8, shard=(i, 20))
    merged = mx.merge(stores, tmp_path / "all")
    assert merged.missing == ()
    wanted = run(batch_size=8)
    same((merged.values, merged.errors, merged.nll), (wanted.values, wanted.errors, wanted.nll))
    same(wanted.values, reference.values)


@pytest.mark.slow
def test_on_the_command_line(tmp_path):
    study = ("toys", HIFA, "-n", 40, "--batch-size", 10)
    for i in range(2):
        command(*study, "--store", tmp_path / str(i), "--shard", f"{i}/2")
    done = command("merge", tmp_path / "0", tmp_path / "1", "--into", tmp_path / "all", "--json", "-")
    told = json.loads(done.stdout)
    assert (told["toys"], told["of"], told["missing"]) == (40, 40, [])
    command(
        "toys", HIFA, "-n", 40, "--batch-size", 10, "--store", tmp_path / "whole", "--json", tmp_path / "whole.json"
    )
    assert told["values"] == json.loads((tmp_path / "whole.json").read_text())["values"]
    command("fit", HIFA, "--npz", tmp_path / "fit.npz")
    command(*study, "--fit", tmp_path / "fit.npz", "--json", tmp_path / "again.json")
    assert told["values"] == json.loads((tmp_path / "again.json").read_text())["values"]
    left_out = command("merge", tmp_path / "0", tmp_path, "--into", tmp_path / "half", "--leave-out")
    assert "batches that are in none of the stores: 2 to 3" in left_out.output
    assert (
        "--leave-out takes what is right" in command("merge", tmp_path / "0", "--into", tmp_path / "x", code=1).output
    )
    again = ("toys", HIFA, "-n", 40, "--store", tmp_path / "0", "--shard", "0/2")  # the store knows the size
    command(*again)
    assert "is no store" in command("merge", tmp_path, "--into", tmp_path / "x", code=1).output
    assert "'2/2' is no i/n" in command("toys", HIFA, "--shard", "2/2", code=2).output
    assert "at most 1 shards" in command("toys", HIFA, "--shard", "0/2", code=2).output


def test_limits_on_the_command_line(tmp_path):
    how = ("limit", HIFA, "--toys", 120, "--values", "0.5:3:3", "--batch-size", 30)
    for i in range(2):
        done = command(*how, "--store", tmp_path / str(i), "--shard", f"{i}/2")
        assert f"By 60 of 120 toys: part {i} of 2, for merge" in done.output
    merged = command("merge", tmp_path / "0", tmp_path / "1", "--into", tmp_path / "all", "--json", "-")
    studies = json.loads(merged.stdout)["studies"]
    assert len(studies) == 6
    assert {(study["toys"], study["of"]) for study in studies} == {(120, 120)}
    command(*how, "--store", tmp_path / "whole", "--json", tmp_path / "whole.json", code=None)
    command(*how, "--store", tmp_path / "all", "--json", tmp_path / "all.json", code=None)
    assert json.loads((tmp_path / "all.json").read_text()) == json.loads((tmp_path / "whole.json").read_text())
    assert "give --toys" in command("limit", HIFA, "--store", tmp_path / "x", code=2).output
    assert "give the --store" in command(*how, "--shard", "0/2", code=2).output
    search = ("limit", HIFA, "--toys", 120, "--store", tmp_path / "x", "--shard", "0/2")
    assert "give the --values" in command(*search, code=2).output
    assert "is no low:high:number" in command(*how[:-3], "1:2", code=2).output
    assert "at most 4 shards" in command(*how, "--store", tmp_path / "x", "--shard", "0/5", code=2).output
    other = command(*how[:4], "--values", "0.5,99", "--store", tmp_path / "x", code=1).output
    assert "values must be between 0 and 10" in other


@pytest.mark.parametrize("study", [mx.pull_study, mx.bias, mx.coverage_study])
def test_studies_of_a_store(study, tmp_path):
    fits = run(tmp_path, n=2 * SIZE, minos="mu")
    store = mx.open_store(tmp_path)
    assert store.minos is not None
    same(store.minos, fits.minos)
    same(study(store, PARAMS), study(fits, PARAMS))
    same(study(store, PARAMS, truth={"mu": 0.5, "b": 21.0}), study(fits, {"mu": 0.5, "b": 21.0}))
    with pytest.raises(TypeError, match="of a store takes it and the true parameters"):
        study(store, PARAMS, mx.Toys(10, KEY))
    for path in tmp_path.glob("batch*"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no toys yet"):
        study(mx.open_store(tmp_path), PARAMS)
