"""Errors in what is HELM's: its attention and sums, its scales, its two optimizers, its files."""

from parity_tests.mutants.mutation import Mutation, error

LAYER, NET, TABLE = "port_jax/layers/helm.py", "port_jax/models/helm.py", "weights/models/helm.py"
MODEL = "models/test_helm.py"
PARITY, PAPER = f"{MODEL}::test_outputs_gradients_and_the_way_back[one block]", f"{MODEL}::test_the_papers_formulas[one block]"

MUTATIONS: tuple[Mutation, ...] = (
    error("HELM: rotations backwards", LAYER, "[a * cos - b * sin, a * sin + b * cos]", "[a * cos + b * sin, b * cos - a * sin]", PARITY),
    error("HELM: heads joined without their times", LAYER, "joined = heads.reshape(", "joined = heads.at[..., 0].set(1).reshape(", PARITY),
    error("HELM: keys that are not turned", LAYER, "rotated(key, by), value)", "key, value)", PARITY),
    error("HELM: centroids on the unit hyperboloid", LAYER, "centroid(total, manifold.k)", "centroid(total, 1.0)", PARITY),
    error("HELM: no gate", LAYER, "jax.nn.silu(gate) * value", "jax.nn.silu(gate) + 0 * value", PARITY),
    Mutation(
        "HELM: rotations by the coordinates with the time, on both sides",
        (
            (LAYER, "/ np.float32(features)", "/ np.float32(features + 1)"),
            ("reference_torch/layers/helm.py", "0, features, 2).float() / features)", "0, features, 2).float() / (features + 1))"),
        ),
        (f"{MODEL}::test_the_papers_formulas[two blocks]",),
    ),
    Mutation(
        "HELM: RMSNorm with another bound, on both sides",
        (
            ("port_jax/layers/pointwise.py", "    eps: float = 1e-8\n", "    eps: float = 1e-4\n"),
            ("reference_torch/layers/helm.py", "features: int, eps: float = 1e-8):", "features: int, eps: float = 1e-4):"),
        ),
        (PAPER,),
    ),
    Mutation(
        "HELM: sums scaled by the space coordinates' number, on both sides",
        (
            (TABLE, "scale = 4 * width**0.5", "scale = 4 * (width - 1) ** 0.5"),
            ("reference_torch/models/helm.py", "scale = 4 * width**0.5 if", "scale = 4 * (width - 1) ** 0.5 if"),
        ),
        (PAPER,),
    ),
    error("HELM: tokens that see the next one", NET, "bool), 1)\n        space, x", "bool), 2)\n        space, x", PARITY),
    error("HELM: tokens on their own hyperboloid", NET, "x, jnp.nan) * (self.k_hidden / self.k_in) ** 0.5", "x, jnp.nan)", PARITY),
    error("HELM: an id outside of the vocabulary in silence", NET, "jnp.where(known[..., None], x, jnp.nan)", "x",
          f"{MODEL}::test_what_does_not_fit_is_refused"),
    error("HELM: points in half precision", NET, "x = widened(self.token_embed(", "x = (self.token_embed(",
          f"{MODEL}::test_a_file_in_half_precision"),
    error("HELM: a sum that turns with its weight", "port_jax/layers/residual.py", "onto(x + w * y, manifold.k, LEAST)",
          "onto(x + jnp.abs(w) * y, manifold.k, LEAST)", "layers/test_residual.py::test_a_sum_as_it_was_trained"),
    error("HELM: a shorter sum than the code has", "port_jax/layers/residual.py", "LEAST = 1e-2", "LEAST = 1e-4",
          "layers/test_residual.py::test_a_sum_as_it_was_trained"),
    error("HELM: groups without what nothing uses", TABLE, "[[key for key in keys if key not in apart]",
          '[[key for key in keys if key not in apart and "add_pos" not in key]', f"{MODEL}::test_a_run_goes_on_from_its_file"),
    error("HELM: steps by gradients that are not cut", TABLE, "Resumed.of(arrays, clip=CLIP)", "Resumed.of(arrays)",
          f"{MODEL}::test_steps_that_were_recorded"),
    error("HELM: real and imaginary parts exchanged", "weights/mapping/rules.py", "np.stack([np.real(a), np.imag(a)], -1)",
          "np.stack([np.imag(a), np.real(a)], -1)", PARITY),
    error("optimizers: the last way in place of the first", "weights/optim/divisions.py", "            for taken, _ in good:\n",
          "            for row, _ in good:\n                taken = row\n", f"{MODEL}::test_optimizers_of_another_script"),
)  # fmt: skip
