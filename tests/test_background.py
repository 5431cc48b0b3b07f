"""The thread that compiles what has been called often; threads of the user's own; interrupts."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import migrax as mx
from migrax._host.xp import is_on_host
from migrax._util import background
from migrax._util.background import Repeats

EVENTS = jnp.asarray(np.random.default_rng(3).normal(1.0, 2.0, 200))
START = {"m": mx.Parameter(0.0), "s": mx.Parameter(1.0, lower=0.1)}


def nll_of(scale):
    """A likelihood of its own, so that its programs are not there yet."""
    return lambda p, x: jnp.sum(0.5 * scale * ((x - p["m"]) / p["s"]) ** 2 + scale * jnp.log(p["s"]))


@pytest.fixture
def at_once(monkeypatch):
    """The second call of a kind is enough."""
    monkeypatch.setenv("MIGRAX_BACKGROUND", "1")
    monkeypatch.setattr(Repeats, "_ENOUGH", 0.0)
    ready = threading.Event()
    add = set.add

    class Ready(set):
        def add(self, key):
            add(self, key)
            ready.set()

    init = Repeats.__init__

    def with_event(self, seconds=0.0):
        init(self)
        self._ready = Ready()

    monkeypatch.setattr(Repeats, "__init__", with_event)
    return ready


def test_after_some_calls_a_program_answers(at_once, monkeypatch):
    nll = nll_of(1.0)
    first = mx.fit(nll, START, EVENTS)
    mx.fit(nll, START, EVENTS)
    assert at_once.wait(120)
    monkeypatch.setattr("migrax._fit.on_host.solve", lambda *_: pytest.fail("on the host again"))
    again = mx.fit(nll, START, EVENTS)
    np.testing.assert_allclose(again.values, first.values, rtol=1e-12)
    for key, count in first.stats.items():
        assert int(count) == int(again.stats[key])


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("MIGRAX_BACKGROUND", "0")
    repeats = Repeats()
    repeats.add("fit", 5.0, lambda: pytest.fail("compiled"))
    repeats.add("fit", 5.0, lambda: pytest.fail("compiled"))
    time.sleep(0.05)
    assert not repeats.is_ready("fit")


def test_the_first_call_is_free_and_short_ones_are_many(monkeypatch):
    monkeypatch.setenv("MIGRAX_BACKGROUND", "1")
    jobs = []
    monkeypatch.setattr(background._WORKER, "submit", jobs.append)
    repeats = Repeats()
    repeats.add("fit", 100.0, lambda: None)  # it traces
    for _ in range(9):
        repeats.add("fit", 0.1, lambda: None)
    assert not jobs
    for _ in range(5):
        repeats.add("fit", 0.1, lambda: None)
    assert len(jobs) == 1
    assert not repeats.is_ready("fit")
    jobs[0]()
    assert repeats.is_ready("fit")
    assert not repeats.is_ready("minos")


def test_what_takes_long_to_compile_has_to_be_called_longer(monkeypatch):
    monkeypatch.setenv("MIGRAX_BACKGROUND", "1")
    jobs = []
    monkeypatch.setattr(background._WORKER, "submit", jobs.append)
    repeats = Repeats(20.0)
    for _ in range(20):
        repeats.add("fit", 1.0, lambda: None)
    assert not jobs
    for _ in range(2):
        repeats.add("fit", 1.0, lambda: None)
    assert len(jobs) == 1


def test_a_failure_is_silent(monkeypatch, capfd):
    monkeypatch.setenv("MIGRAX_BACKGROUND", "1")
    monkeypatch.setattr(Repeats, "_ENOUGH", 0.0)
    worker = background._Worker()
    done = threading.Event()
    worker.submit(lambda: 1 / 0)
    worker.submit(done.set)
    assert done.wait(30)  # the thread lives on
    worker.stop()
    assert capfd.readouterr() == ("", "")
    worker.submit(lambda: pytest.fail("after its end"))


def test_the_process_ends_while_it_compiles(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import jax, jax.numpy as jnp\n"
        "jax.config.update('jax_enable_x64', True)\n"
        "import migrax as mx\n"
        "from migrax._util.background import Repeats\n"
        "Repeats._ENOUGH = 0.0\n"
        "nll = lambda p, _: (p['a'] - 1.0) ** 4 + (p['a'] - 2.0) ** 2\n"
        "for _ in range(2): result = mx.fit(nll, {'a': 0.0})\n"
        "print(bool(result.valid))\n"
    )

    environment = os.environ | {"MIGRAX_BACKGROUND": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_threads_of_the_users_own():
    """Each fits its own data with the same likelihood at the same time."""
    nll = nll_of(2.0)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda shift: mx.fit(nll, START, EVENTS + shift), range(12)))
    for shift, result in enumerate(results):
        np.testing.assert_allclose(result["m"].value, float(EVENTS.mean()) + shift, rtol=1e-9)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of signals")
def test_an_interrupt_stops_at_once_and_breaks_nothing():
    def nll(p, x):
        return jnp.sum((x - p["v"]) ** 4) + jnp.sum(p["v"] ** 2) + jnp.prod(jnp.cos(p["v"]))

    start, data = {"v": jnp.zeros(30)}, jnp.linspace(-1.0, 1.0, 30)
    expected = mx.fit(nll, start, data)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    stopped = 0
    try:
        for delay in (0.002, 0.004, 0.007):
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)  # inside: on a slow machine it may ring at once
                while True:
                    mx.fit(nll, start, data)
            except KeyboardInterrupt:
                stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped == 3
    assert not is_on_host()
    again = mx.fit(nll, start, data)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)
