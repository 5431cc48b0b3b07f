"""A correlated quadratic of three parameters, one a vector: what profiles and contours are known of."""

import functools

import jax.numpy as jnp
import numpy as np

import migrax as mx

COVARIANCE = np.array([[4.0, 1.2, 0.5], [1.2, 1.0, -0.2], [0.5, -0.2, 2.0]])
INVERSE = jnp.asarray(np.linalg.inv(COVARIANCE))
AT = jnp.array([1.0, -2.0, 0.3])


def quadratic(p, at):
    d = jnp.concatenate([p["v"], p["w"][None]]) - at
    return 0.5 * d @ INVERSE @ d


@functools.cache
def fitted():
    return mx.fit(quadratic, {"v": jnp.zeros(2), "w": 0.0}, AT)
