"""Stand-ins with the interfaces of other libraries' distributions."""

import jax
import jax.numpy as jnp


class Numpyro:
    """numpyro.distributions.Normal: `log_prob(value)`, `sample(key, sample_shape=())`, `event_shape`."""

    event_shape = ()

    def __init__(self, loc, scale):
        self.loc, self.scale = loc, scale

    def log_prob(self, value):
        return jax.scipy.stats.norm.logpdf(value, self.loc, self.scale)

    def sample(self, key, sample_shape=()):
        assert key is not None
        shape = sample_shape + jnp.broadcast_shapes(jnp.shape(self.loc), jnp.shape(self.scale))
        return self.loc + self.scale * jax.random.normal(key, shape)


class TFP(Numpyro):
    """tensorflow_probability.substrates.jax.distributions.Normal: `sample(sample_shape=(), seed=None)`."""

    def sample(self, sample_shape=(), seed=None, name="sample"):
        return super().sample(seed, tuple(sample_shape))
