"""Toys in the workers of an executor: the same bits as here, whatever dies."""

import multiprocessing
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from toy_jobs import Dying, same

TEMPLATE = np.array([3.0, 8.0, 5.0])
PARAMS = {"mu": mx.Parameter(1.0, lower=0.0), "b": mx.Parameter(20.0, lower=0.0)}
KEY = jax.random.key(3)
N, SIZE = 500, 128


def expected(p):
    return p["mu"] * TEMPLATE + p["b"]


NLL = mx.PoissonNLL(expected)


def run(executor=None, toys=None, nll=NLL, **options):
    toys = mx.Toys(N, KEY) if toys is None else toys
    return mx.fit_toys(nll, PARAMS, toys, executor=executor, **({"batch_size": SIZE} | options))


@pytest.fixture(scope="module")
def reference():
    return run()


@pytest.mark.slow
def test_processes(reference, tmp_path):
    """Two processes; with a store, with given toys, with starts, and for a shard."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        same(run(executor, store=tmp_path / "toys"), reference)
        same(run(store=tmp_path / "toys"), reference)
        drawn = mx.sample(NLL, PARAMS, KEY, N)
        starts = np.asarray(reference.values)
        same(run(executor, toys=drawn, starts=starts), run(toys=drawn, starts=starts))
        same(run(executor, starts=starts, minos=True), run(starts=starts, minos=True))
        same(run(executor, shard=(1, 2)), run(shard=(1, 2)))
        study = mx.pull_study(NLL, PARAMS, mx.Toys(N, KEY), executor=executor, batch_size=SIZE)
        assert study.total == N


def test_threads(reference, tmp_path):
    with ThreadPoolExecutor(2) as executor:
        same(run(executor), reference)
        same(run(executor, store=tmp_path / "toys"), reference)
        assert len(mx.open_store(tmp_path / "toys")) == N
    assert not list((tmp_path / "toys").glob(".claim-*"))


def test_one_that_dies(reference, tmp_path):
    with Dying(1) as executor, pytest.raises(RuntimeError, match=r"the executor died .* with another executor"):
        run(executor, store=tmp_path / "toys")
    kept = mx.open_store(tmp_path / "toys")
    assert set(kept.batches) >= {0, 1}
    assert not list((tmp_path / "toys").glob(".claim-*"))
    same(run(store=tmp_path / "toys"), reference)


def test_bad_input(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(TypeError, match=r"executor takes a concurrent\.futures\.Executor.*got int"):
        run(4)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as executor, pytest.raises(ValueError, match="made by a fork"):
        run(executor)
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="not both"):
            run(executor, mesh=jax.make_mesh((1,), ("toys",)))
        with pytest.raises(TypeError, match="the likelihood cannot be sent to the workers"):
            run(executor, nll=mx.PoissonNLL(lambda p: p["mu"] * TEMPLATE + p["b"]))


def test_an_error_of_a_worker():
    def submit(fn, *args):
        future = Future()
        future.set_exception(OSError(5, "a disk"))
        return future

    class Failing:
        pass

    failing = Failing()
    failing.submit = submit
    with pytest.raises(OSError, match="a disk"):
        run(failing)


@pytest.mark.slow
def test_dask(reference):
    distributed = pytest.importorskip("distributed")
    with distributed.Client(n_workers=2, threads_per_worker=1) as client:
        same(run(client.get_executor()), reference)
        same(
            run(client.get_executor(), nll=mx.PoissonNLL(lambda p: p["mu"] * jnp.asarray(TEMPLATE) + p["b"])), reference
        )
