"""Settings that every comparison needs: float64 in JAX, an eager and single-threaded reference."""

import os
from pathlib import Path

os.environ.setdefault("PYTORCH_JIT", "0")  # geoopt's scripted gradients differ between the first call and later ones
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is XLA's compilation of functions that run once on small arrays: these settings make it three times shorter.
# `XLA_FLAGS= make test` runs the suite on the code that users get, as `make demo` and `make accuracy` always do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import torch

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)

# Compiled functions are kept between runs; a first run finds the folder empty.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
