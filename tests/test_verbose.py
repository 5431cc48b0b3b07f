"""What MIGRAD tells of its steps, as Optimistix's solvers do."""

import jax
import jax.numpy as jnp
import optimistix as optx
import pytest

import migrax as mx


def bowl(y, args):
    return jnp.sum((y - 1) ** 2)


def test_each_step_is_printed(capfd):
    solution = optx.minimise(bowl, mx.Migrad(verbose=True), jnp.zeros(2))
    jax.effects_barrier()
    lines = capfd.readouterr().out.strip().splitlines()
    assert len(lines) == int(solution.stats["num_steps"])
    assert lines[0].startswith("Gradients: 1, loss on this step: 2.0, loss on the last accepted step: 2.0, EDM: ")


def test_a_function_is_given_pairs():
    said = []

    def tell(**kwargs):
        said.append({name: label for name, (label, _) in kwargs.items()})

    optx.minimise(bowl, mx.Migrad(verbose=tell), jnp.zeros(2))
    theirs = {"loss_this_step", "loss_last_accepted_step", "y", "y_last_accepted_step"}  # of optx.BFGS
    assert theirs | {"edm", "num_gradients"} == set(said[0])


def test_inside_a_fit(capfd):
    mx.fit(bowl, jnp.zeros(1), solver=mx.Migrad(verbose=True))
    jax.effects_barrier()
    assert "EDM" in capfd.readouterr().out


def test_bad_input():
    with pytest.raises(TypeError, match="verbose"):
        mx.Migrad(verbose="yes")
