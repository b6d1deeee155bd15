"""Markov chain Monte Carlo on manifolds."""

from port_jax.samplers.chain import Chain, Sampler, sample
from port_jax.samplers.rhmc import rhmc
from port_jax.samplers.rsgld import rsgld
from port_jax.samplers.sgrhmc import sgrhmc

__all__ = ["Chain", "Sampler", "rhmc", "rsgld", "sample", "sgrhmc"]
