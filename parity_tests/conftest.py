"""Settings that every comparison needs: float64 in JAX, an eager and single-threaded reference."""

import ctypes
import gc
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("PYTORCH_JIT", "0")  # geoopt's scripted gradients differ between the first call and later ones
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is XLA's compilation of functions that run once on small arrays: these settings make it three times shorter.
# `XLA_FLAGS= make test` runs the suite on the code that users get, as `make demo` and `make accuracy` always do.
# The last flag ends the process under jaxlib 0.11.2, which no longer knows it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""),
)

import jax
import pytest

from parity_tests import draws, slow, without_torch

jax.config.update("jax_enable_x64", True)
gc.set_threshold(50_000, 20, 100)  # traced programs are millions of objects that stay, and looking through all of them takes seconds
# Each operation's place in the source, which nobody reads here, is a tenth of the time in which programs are lowered.
jax.config.update("jax_traceback_in_locations_limit", 0)
jax.config.update("jax_include_full_tracebacks_in_locations", False)

# Compiled functions are kept between runs; a first run finds the folder empty. JAX_COMPILATION_CACHE_DIR names another folder. Workers
# and the processes that tests start find the folder by the variable.
SOURCES = Path(__file__).parent.parent
if not os.access(SOURCES, os.W_OK):
    kept = tempfile.TemporaryDirectory(prefix="hyperport_")  # until this process ends
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", kept.name)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(SOURCES / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(int(os.environ.get("HYPERPORT_TORCH_THREADS", "1")))
else:
    without_torch.skip_what_imports_it()


LIBC = ctypes.CDLL(None)
ENOUGH = 3 * 2**30
"""The bytes beyond which a worker forgets its compiled programs after a file: of the whole slow suite they are more than 10 GiB."""


@pytest.fixture(autouse=True, scope="module")
def programs_in_bounds() -> Iterator[None]:
    yield
    statm = Path("/proc/self/statm")
    if statm.exists() and int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > ENOUGH:
        jax.clear_caches()
        gc.collect()
        if hasattr(LIBC, "malloc_trim"):  # glibc keeps what is free
            LIBC.malloc_trim(0)


@pytest.fixture(autouse=True)
def draws_of_its_own(request: pytest.FixtureRequest) -> None:
    """What a test draws depends on its name: the same in any order of tests, in a file alone, on any number of workers."""
    draws.restart(f"{request.node.path.name}::{request.node.nodeid.partition('::')[2]}")


@pytest.fixture(autouse=True)
def environment_of_its_own() -> Iterator[None]:
    """Commands that tests call in this process set variables, which processes that later tests start would inherit."""
    with patch.dict(os.environ):
        yield


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow.mark(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Of the instructions below AVX, none converts float16, and XLA links no function that does: such programs do not compile there."""
    try:
        return (yield)
    except jax.errors.JaxRuntimeError as error:
        if "xla_cpu_max_isa=SSE4_2" in os.environ["XLA_FLAGS"] and "Failed to materialize symbols" in str(error):
            pytest.skip("XLA compiles no float16 for SSE4.2")
        raise
