"""What the tests of stores, shards and executors share."""

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import jax
import numpy as np


class Dying(ThreadPoolExecutor):
    """Has a worker that dies in the third batch, while the others go on."""

    count = 0

    def submit(self, fn, /, *args, **kwargs):
        self.count += 1
        if self.count != 3:
            return super().submit(fn, *args, **kwargs)
        future = Future()
        self.submit(lambda: None).result()
        future.set_exception(BrokenProcessPool("a process ended"))
        return future


def same(got, wanted):
    """To the last bit."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def started(script, *arguments):
    """A process that runs the script beside the tests, in float64; it prints a line when it begins."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    environment["JAX_ENABLE_X64"] = "1"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process
