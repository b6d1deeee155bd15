"""Errors in MERU, HyCoCLIP and CLIP: the space, the losses, the bounds, the files."""

from parity_tests.mutants.mutation import Mutation, error

SPACE = "layers/test_lorentz_space.py"
VALUES = f"{SPACE}::test_values_and_gradients_are_the_originals"
LOSSES = "models/test_meru_recorded.py::test_losses_against_the_papers_at_50_digits"
RUNS = "models/test_meru.py::test_a_run_goes_on_from_its_file"
PARITY = "models/test_meru.py::test_features_losses_and_gradients"
CLIP = "models/test_meru_clip.py::test_features_loss_and_gradients"

MUTATIONS: tuple[Mutation, ...] = (
    error("MERU: time without the curvature", "port_jax/layers/lorentz_space.py", "time_of(x, 1 / curv) * time_of(y, 1 / curv).T",
          "time_of(x) * time_of(y).T", f"{VALUES}[pairwise_dist]"),
    error("MERU: the aperture without the curvature", "port_jax/layers/lorentz_space.py", "(length * jnp.sqrt(curv) + EPS)",
          "(length + EPS)", f"{VALUES}[half_aperture]"),
    Mutation(
        "MERU: the angle at the other point, on both sides",
        (
            ("port_jax/models/meru_losses.py", "oxy_angle(apex, point, c)", "oxy_angle(point, apex, c)"),
            ("reference_torch/models/meru.py", "lorentz.oxy_angle(apex, point, c)", "lorentz.oxy_angle(point, apex, c)"),
        ),
        (LOSSES,),
    ),
    error("HyCoCLIP: boxes beside boxes", "port_jax/models/meru_losses.py", "pairwise_dist(box_image, text, c)",
          "pairwise_dist(box_image, box_text, c)", LOSSES),
    error("HyCoCLIP: one factor of the aperture", "port_jax/models/meru_losses.py", "ACROSS = 1.2", "ACROSS = 0.7", LOSSES),
    error("MERU: a bound that stops the derivative", "port_jax/models/meru.py",
          "return in_place(value, jnp.clip(value, *self._bounds()[name]))",
          "return jnp.clip(value, *self._bounds()[name])", f"{RUNS}[MERU at its bounds]"),
    error("MERU: steps from beyond the bounds", "weights/models/meru.py", "    confine=lambda model, params: model.clamped(params),\n", "",
          f"{RUNS}[MERU at its bounds]"),
    error("MERU: features within the bounds", "port_jax/models/meru.py", 'return self._lifted(z, "visual_alpha", held=False)',
          'return self._lifted(z, "textual_alpha", held=False)', f"{PARITY}[MERU]"),
    error("MERU: the text's last id in place of its largest", "port_jax/models/meru.py", "jnp.argmax(tokens, -1)[..., None, None]",
          "jnp.argmax(tokens, -1)[..., None, None] * 0 + tokens.shape[-1] - 1", f"{PARITY}[MERU]"),
    error("MERU: positions as a parameter", "weights/models/meru.py", 'buffer("visual.pos_embed", "frozen/visual/pos_embed")',
          'param("visual.pos_embed", "params/visual/pos_embed")', f"{PARITY}[MERU]"),
    error("MERU: a gain among the matrices", "weights/models/meru.py", r're.search(r"(^|\.)(norm\d?|ln_\w+)\.", key)',
          r're.search(r"(^|\.)(norm\d|ln_\w+)\.", key)', "models/test_meru.py::test_groups_follow_the_rule_and_its_slip"),
    error("MERU: a warm-up of one step less", "port_jax/optim/schedules.py", "real(n) / risen", "real(n + 1) / risen",
          "optim/test_schedules.py::test_rates_are_those_of_torch[warm-up and cosine]"),
    Mutation(
        "CLIP: an approximate GELU of images, on both sides",
        (
            ("port_jax/layers/vision_transformer.py", "approximate=False", "approximate=True"),
            ("reference_torch/layers/vision_transformer.py", "F.gelu(self.fc1(x))", "F.gelu(self.fc1(x), approximate='tanh')"),
        ),
        (CLIP,),
    ),
    Mutation(
        "CLIP: words that see the next one, on both sides",
        (
            ("port_jax/layers/text_transformer.py", "jnp.triu(jnp.ones((length, length), bool), 1)",
             "jnp.triu(jnp.ones((length, length), bool), 2)"),
            ("reference_torch/layers/text_transformer.py", ".triu(1).bool()", ".triu(2).bool()"),
        ),
        (CLIP,),
    ),
    Mutation(
        "CLIP: the mean of the patches for the class token, on both sides",
        (
            ("port_jax/layers/vision_transformer.py", "(x[..., 0, :])", "(x.mean(-2))"),
            ("reference_torch/layers/vision_transformer.py", "self.norm(self.blocks(x))[:, 0]", "self.norm(self.blocks(x).mean(1))"),
        ),
        (CLIP,),
    ),
    error("confined: the step alone", "port_jax/optim/confined.py", "(q - p) + u", "u", "optim/test_confined.py"),
    error("authors: tensors after the steps are not compared", "weights/proof/authors.py", "for key, theirs in found.after.items():",
          "for key, theirs in list(found.after.items())[:0]:",
          "models/test_meru_recorded.py::test_what_differs_from_the_authors_numbers_is_seen[after10/textual.token_embed.weight]"),
)  # fmt: skip
