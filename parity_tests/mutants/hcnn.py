"""Errors in what is HyperbolicCV's: its blocks, the way between its spaces, its points."""

from parity_tests.mutants.mutation import Mutation, error

NET = "port_jax/models/hcnn.py"
MODEL = "models/test_hcnn.py"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "HCNN: convolutions that begin with torch's bound for ordinary ones",
        NET,
        "symmetric((2 / ((x.shape[-1] - 1) * size**2)) ** 0.5)",
        "symmetric((1 / ((x.shape[-1] - 1) * size**2)) ** 0.5)",
        f"{MODEL}::test_a_network_that_begins_here_has_the_laws_of_the_reference[lorentz]",
    ),
    error(
        "HCNN: a classifier that begins with a normal law",
        NET,
        "nn.Dense, symmetric(wide**-0.5)",
        "nn.Dense, nn.initializers.normal((3 * wide) ** -0.5)",
        f"{MODEL}::test_a_network_that_begins_here_has_the_laws_of_the_reference[lorentz]",
    ),
    error(
        "HCNN: points that a step between equal radii moves by rounding, and derivatives by the radii",
        NET,
        "jnp.where(jnp.asarray(space.k) == goal.k, x, exp0(log0(x, space.k), goal.k))",
        "exp0(log0(x, space.k), goal.k)",
        f"{MODEL}::test_equal_radii_pass_points_as_they_are",
    ),
    error(
        "HCNN: features cut at the root of the length",
        NET,
        "self.clip_features**2",
        "self.clip_features",
        f"{MODEL}::test_the_classifier_on_a_ball_at_50_digits",
    ),
    error(
        "HCNN: the mean of pixels, projected, in the place of their centroid",
        NET,
        "MidpointPool((1, 2))(manifold, x)",
        "manifold.projx(x.mean((1, 2)))",
        f"{MODEL}::test_the_papers_formulas_at_50_digits",
    ),
    error(
        "HCNN: a first group that halves the image",
        NET,
        "group > 2 and n == 0",
        "n == 0",
        f"{MODEL}::test_outputs_gradients_and_the_way_back[lorentz]",
    ),
    error(
        "HCNN: batch norm with the formulas of the paper for those of the code",
        NET,
        "LorentzBatchNorm(as_trained=True",
        "LorentzBatchNorm(as_trained=False",
        f"{MODEL}::test_outputs_gradients_and_the_way_back[lorentz]",
    ),
    error(
        "HCNN: points that an optimizer steps on the classifier's hyperboloid",
        NET,
        'manifold_of("Lorentz", self.encoder_k, raw)',
        'manifold_of("Lorentz", self.decoder_k, raw)',
        f"{MODEL}::test_the_optimizers_go_on[bottleneck]",
    ),
)
