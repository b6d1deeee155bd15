"""Settings that every comparison needs: float64 in JAX, an eager and single-threaded reference."""

import importlib.util
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

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

from parity_tests import draws, without_torch

jax.config.update("jax_enable_x64", True)

# Compiled functions are kept between runs; a first run finds the folder empty. JAX_COMPILATION_CACHE_DIR names another folder.
SOURCES = Path(__file__).parent.parent
if not os.access(SOURCES, os.W_OK):
    # Kept until this process ends. The workers find the folder by the variable.
    kept = tempfile.TemporaryDirectory(prefix="hyperport_")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", kept.name)
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(SOURCES / ".cache" / "jax")))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(int(os.environ.get("HYPERPORT_TORCH_THREADS", "1")))
else:
    without_torch.skip_what_imports_it()


LEFT_TO_TEST_SLOW = (
    # cases whose like stays in `make test`: other options of the same model, the other dtype, the same law on a variant
    "test_hgat.py::test_outputs_gradients_float32_and_the_way_back[hat-Lorentz-1]",
    "test_hgat.py::test_outputs_gradients_float32_and_the_way_back[gil-Lorentz-5]",
    "test_hgat.py::test_outputs_gradients_float32_and_the_way_back[markov_blanket-Lorentz-8]",
    "test_hgat.py::test_outputs_gradients_float32_and_the_way_back[markov_blanket-Lorentz-9]",
    "test_hgat.py::test_outputs_gradients_float32_and_the_way_back[markov_blanket-PoincareBall-10]",
    "test_hgat.py::test_second_derivatives[markov_blanket]",
    "test_hgat.py::test_training_goes_on_from_the_state_of_the_optimizer[adam-htgn]",
    "test_hgat.py::test_training_goes_on_from_the_state_of_the_optimizer[sgd-markov_blanket]",
    "test_hgat.py::test_a_node_with_an_empty_blanket_stays_where_it_is[PoincareBall]",
    "test_hgat.py::test_masks_of_dropout_multiply_the_same_things[htgn]",
    "test_htgn.py::test_forward_and_gradients[attention, trained rows]",
    "test_gil.py::test_forward_and_gradients[classes]",
    "test_gil.py::test_forward_and_gradients[pubmed classes, no distance]",
    "test_gil.py::test_forward_and_gradients[HGAT classes]",
    "test_hgcn.py::test_forward_and_gradients[ball, links, trained, local]",
    "test_hgcn.py::test_forward_and_gradients[hyperboloid, links, no bias]",
    "test_hnn.py::test_forward_and_gradients[ball, links, trained]",
    "test_kgemb.py::test_scores_and_gradients[AttH]",
    "test_kgemb.py::test_scores_and_gradients[RotH]",
    "test_gat.py::test_forward_and_gradients[links]",
    "test_frechet.py::test_curved_the_other_way_and_matrices",
    "test_limits.py::test_lorentz_is_finite[float64]",
    "test_limits.py::test_ball_is_finite[float64]",
    "test_laws.py::test_laws[Scaled Sphere]",
    "test_laws.py::test_laws[Sphere, intersection]",
    "test_curvature.py::test_integrated_geodesics_and_transport[ProductManifold]",
    "test_curvature.py::test_integrated_geodesics_and_transport[StereographicProductManifold]",
    "test_lorentz.py::test_float64[transp_follow_retr]",
    "test_stereographic.py::test_float64[transp_follow_expmap]",
    "test_stereographic_tree.py::test_tree[3-3-1]",
    "test_riemannian_adamw.py::test_trajectories_equal_the_definition_by_geoopts_operations[lr 0.03, weight_decay 0.3]",
    "_by_geoopts_operations[lr 0.01, betas (0.8, 0.95), weight_decay 0.01, stabilize 3]",
    "test_pairwise.py::test_equals_dist_with_its_derivatives[3-PoincareBall(c=0.1)]",
    "test_pairwise.py::test_equals_dist_with_its_derivatives[40-PoincareBall(c=0.1)]",
    "test_pairwise.py::test_equals_dist_with_its_derivatives[40-Lorentz(k=0.4)]",
    "test_pairwise.py::test_equals_dist_with_its_derivatives[3-Lorentz(k=0.4)]",
    "test_pairwise.py::test_equals_dist_with_its_derivatives[40-PoincareBall(c=10.0)]",
    "test_pairwise.py::test_equals_dist_with_its_derivatives[40-Lorentz(k=3.0)]",
    "test_momentum.py::test_second_derivatives_through_steps_in_a_scan[hyperboloid]",
    "test_samplers.py::test_law_on_products_and_scaled_manifolds[sgrhmc]",
    "test_samplers.py::test_law_on_products_and_scaled_manifolds[rsgld]",
    "test_verify.py::test_a_right_conversion_passes_and_wrong_ones_fail[htgn layers]",
    "test_verify.py::test_a_right_conversion_passes_and_wrong_ones_fail[hnn]",
    "test_verify.py::test_a_right_conversion_passes_and_wrong_ones_fail[gil]",
    "test_verify.py::test_a_right_conversion_passes_and_wrong_ones_fail[shallow]",
    "test_hgat.py::test_training_goes_on_from_the_state_of_the_optimizer[adam-markov_blanket]",
    "test_gil.py::test_forward_and_gradients[links, pubmed, averaged heads]",
    "test_gil.py::test_forward_and_gradients[no bias, no attention, c = 0.6]",
    "test_hgcn.py::test_forward_and_gradients[hyperboloid, links, local]",
    "test_frechet.py::test_models_agree",
    "test_geometry.py::test_other_manifolds",
    "test_scaled.py::test_parity[ball]",
    "test_decoders.py::test_info_nce[ball]",
    "_by_geoopts_operations[lr 0.03, eps 0.001, weight_decay 0.01, amsgrad True]",
    "test_riemannian_line_search.py::test_step_sizes_and_points_equal_geoopt[names6-wolfe-pr]",
    "test_sparse.py::test_trajectories_equal_geoopt[lr 0.0005, momentum 0.9, nesterov True]",
    "test_riemannian_sgd.py::test_trajectories_equal_geoopt[lr 0.0005, momentum 0.9, nesterov True, weight_decay 0.1]",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the cases of `make test-slow`, so that `make test` stays under ten minutes on two cores."""
    for item in items:
        if item.nodeid.endswith(LEFT_TO_TEST_SLOW):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def draws_of_its_own(request: pytest.FixtureRequest) -> None:
    """What a test draws depends on its name: the same in any order of tests, in a file alone, on any number of workers."""
    draws.restart(f"{request.node.path.name}::{request.node.nodeid.partition('::')[2]}")
