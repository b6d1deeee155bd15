"""Settings that every comparison needs: float64 in JAX, an eager and single-threaded reference."""

import os

os.environ.setdefault("PYTORCH_JIT", "0")  # geoopt's scripted gradients differ between the first call and later ones
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import torch

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
