"""What models take as features and indices: the rule of all arrays, with the argument's name in what is refused."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws, slow
from parity_tests.models.graph_models import GRAPH, NODES, PAIRS, X
from parity_tests.models.small_models import CASES
from port_jax.models import MLP, MuRP, PoincareEmbeddings
from weights.mapping.probes import Draw, for_jax
from weights.models import ARCHITECTURES

FEATURED = ("hgat", "hgcn", "hnn", "gcn", "gat", "mlp", "hybonet", "htgn", "gil", "hyptorch")


def test_integers_lists_and_tensors_are_numbers():
    model = MLP(X.shape[1], dim=4, n_classes=3, manifold="Euclidean")
    whole = np.arange(X.size).reshape(X.shape) % 3
    variables = model.init(draws.key(0), X, GRAPH)
    want = model.apply(variables, whole.astype(float), GRAPH)
    for given in (whole, jnp.asarray(whole), whole.tolist(), torch.tensor(whole), torch.tensor(whole).double()):
        np.testing.assert_array_equal(model.apply(variables, given, GRAPH), want)
    with pytest.raises(TypeError, match=r"x is a torch\.Tensor.*pass x\.detach\(\)"):
        model.apply(variables, torch.tensor(X, requires_grad=True), GRAPH)
    with pytest.raises(TypeError, match=r"x is an array of type|x is a numpy\.ndarray"):
        model.apply(variables, np.full(X.shape, "a"), GRAPH)
    with pytest.raises(ValueError, match="x: found nothing"):
        model.apply(variables, None, GRAPH)


def test_indices_are_integers():
    links, h = PoincareEmbeddings(NODES, 2, manifold="euclidean"), 0.1 * draws.rng(1).standard_normal((NODES, 2))
    variables = {"params": {"embedding": h}}
    want = links.apply(variables, h, PAIRS, method="score")
    for pairs in (PAIRS.tolist(), torch.tensor(PAIRS), jnp.asarray(PAIRS)):
        np.testing.assert_array_equal(links.apply(variables, h.tolist(), pairs, method="score"), want)
    with pytest.raises(TypeError, match="pairs is an array of type float64; pass integers"):
        links.apply(variables, h, PAIRS.astype(float), method="score")
    facts = MuRP(entities=3, relations=2, dim=2)
    with pytest.raises(TypeError, match="relations is an array of type"):
        jax.eval_shape(lambda: facts.init(draws.key(0), [0], [0.5], [1]))


@pytest.mark.parametrize("arch", slow.all_but({"hybonet"}, FEATURED))
def test_integer_features_go_through_every_model(arch: str, tmp_path: Path):
    """Traced: the outputs have the types that the same features in floating point give."""
    make, _ = CASES[arch]
    module, config = make()
    torch.save(module.state_dict(), tmp_path / "model.pth")
    checkpoint = weights.load(tmp_path / "model.pth", config=config, arch=arch)
    probe, model = ARCHITECTURES[arch].probe, checkpoint.model
    drawn = probe.draw(checkpoint.settings, Draw(draws.seed(0)))

    def outputs(variables: Any, inputs: Any) -> Any:
        return probe.outputs(checkpoint.settings, lambda method, *args: model.apply(variables, *args, method=method), inputs)

    def whole(value: Any) -> Any:
        return np.sign(value).astype(int) if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 1 else value

    given = {name: whole(value) for name, value in drawn.items()}
    assert any(value is not drawn[name] for name, value in given.items())
    want, have = (
        jax.eval_shape(lambda v, inputs=inputs: outputs(v, inputs), checkpoint.variables)
        for inputs in (
            for_jax(drawn, "float64"),
            {name: v if isinstance(v, np.ndarray) else for_jax(v, "float64") for name, v in given.items()},
        )
    )
    assert jax.tree.map(lambda a: (a.shape, a.dtype), have) == jax.tree.map(lambda a: (a.shape, a.dtype), want)
