"""Run in processes of their own: toys over forced devices of the host, or over two processes.

`python sharded.py devices N` writes the fits over N devices to standard output as JSON; `python sharded.py process I
PORT STORE` is one of two processes that fit them together.
"""

import json
import sys

import jax
import numpy as np

import migrax as mx

# no array of JAX before jax.distributed is initialised
TEMPLATE = np.array([3.0, 8.0, 5.0, 2.0])
N, SIZE = 250, 96  # the last batch is not full, and no batch a multiple of 8 devices


def params():
    return {"mu": mx.Parameter(1.0, lower=0.0), "b": mx.Parameter(20.0, lower=0.0)}


def nll():
    return mx.PoissonNLL(lambda p: p["mu"] * TEMPLATE + p["b"])


def fits(mesh=None, store=None, toys=None):
    toys = mx.Toys(N, jax.random.key(3)) if toys is None else toys
    return mx.fit_toys(nll(), params(), toys, batch_size=SIZE, mesh=mesh, store=store)


def poisoned():
    """Given toys, some of which need the full fit (and fail)."""
    toys = np.array(mx.sample(nll(), params(), jax.random.key(3), N))
    toys[::25, 1] = np.nan
    return toys


def told(result):
    return {
        "values": np.asarray(result.values).tolist(),
        "errors": np.asarray(result.errors).tolist(),
        "status": np.asarray(result.status).tolist(),
    }


def main(kind, *arguments):
    jax.config.update("jax_enable_x64", True)
    if kind == "devices":
        assert jax.device_count() == int(arguments[0])
        mesh = jax.make_mesh((jax.device_count(),), ("toys",))
    else:
        index, port = int(arguments[0]), arguments[1]
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=index)
        assert jax.process_count() == 2
        mesh = jax.make_mesh((jax.device_count(),), ("toys",))
    store = arguments[2] if len(arguments) > 2 else None
    found = {"drawn": told(fits(mesh, store)), "given": told(fits(mesh, toys=poisoned()))}
    if store is not None:
        found["again"] = told(fits(mesh, store))
    print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
