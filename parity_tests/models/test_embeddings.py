"""`weights.embeddings` on every architecture: what the torch reference encodes, or the table that it holds."""

from pathlib import Path

import numpy as np
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.models import cases_hcnn, cases_helm, cases_meru, cases_poincare_resnet
from parity_tests.models.graph_models import FEATURES
from parity_tests.models.graph_models import NODES as ROWS
from parity_tests.models.planted_errors import CASES, load_ball
from reference_torch.graphs.graph import Graph
from reference_torch.layers.hypll import exp0
from weights.models import ARCHITECTURES

TABLES = {"shallow": "encoder.lt", "hybonet_kg": "emb_entity", "kgemb": "entity.weight", "murp": "Eh.weight",
          "hypll": "weight", "poincare_embeddings": "lt.weight", "tidhy": "temporal", "tree": "emb"}  # fmt: skip
RNG = draws.stream(11)


def graph(nodes: int, matrix: bool) -> tuple[np.ndarray, Graph]:
    """Edges, and the same for torch: D^-1 (A + I), or both directions of each."""
    ends = np.stack(np.nonzero(np.triu(RNG.random((nodes, nodes)) < 0.2, 1)))
    both = np.concatenate([ends, ends[::-1]], 1)
    if not matrix:
        return ends, Graph(torch.as_tensor(both[0]), torch.as_tensor(both[1]), nodes)
    both = np.concatenate([both, np.stack([np.arange(nodes)] * 2)], 1)
    share = 1 / np.bincount(both[1], minlength=nodes)[both[1]]
    return ends, Graph(torch.as_tensor(both[0]), torch.as_tensor(both[1]), nodes, torch.as_tensor(share))


@pytest.mark.parametrize("name", CASES)
def test_embeddings_are_the_references(name: str, tmp_path: Path):
    module, config = CASES[name].make()
    module.eval()
    arch = name.partition(" ")[0]
    torch.save({"model": module.state_dict()} if arch == "tree" else module.state_dict(), tmp_path / "x.pth")
    options = {"arch": "tree", "manifolds": {"emb": load_ball(tmp_path / "x.pth")}} if arch == "tree" else {"config": config}
    ckpt = weights.load(tmp_path / "x.pth", **options)
    if arch in TABLES:
        space = "tangent" if arch == "kgemb" else "manifold"  # whose relations have balls of their own
        assert np.array_equal(weights.embeddings(ckpt, space=space).points, module.state_dict()[TABLES[arch]])
        return
    if arch == "poincare_resnet":
        images = cases_poincare_resnet.images(1, 2)
        want = exp0(module.encode(torch.as_tensor(images)), module.linear_ball.c()).detach().numpy()
        found = weights.embeddings(ckpt, inputs={"images": images})
        assert np.abs(found.points - want).max() <= 1e-9 * np.abs(want).max()
        return
    if arch == "helm":
        found = weights.embeddings(ckpt, inputs={"tokens": cases_helm.tokens()})
        want = module.encode(torch.as_tensor(cases_helm.tokens()).long()).detach().numpy().reshape(found.points.shape)
        assert np.abs(found.points - want).max() <= 1e-9 * np.abs(want).max()
        return
    if arch == "hcnn":
        found = weights.embeddings(ckpt, inputs={"images": cases_hcnn.images()})
        want = module.encode(torch.as_tensor(cases_hcnn.images())).detach().numpy()
        assert np.abs(found.points - want).max() <= 1e-9 * np.abs(want).max()
        return
    if ARCHITECTURES[arch].nodes.arrays:
        given = cases_meru.inputs("MERU")
        want = module.lift_image(module.encode_image(torch.as_tensor(given["images"]), False)).detach().numpy()
        found = weights.embeddings(ckpt, inputs={"images": given["images"]})
        assert np.abs(found.points[:, 1:] - want).max() <= 1e-9 * np.abs(want).max()
        return
    nodes = ckpt.settings.get("num_nodes") or ROWS
    ends, theirs = graph(nodes, ARCHITECTURES[arch].nodes.normalized)
    x = (0.3 * RNG.standard_normal((nodes, ckpt.settings.get("in_features") or FEATURES))).astype(np.float32)
    np.savez(tmp_path / "g.npz", edges=ends, features=x)
    with torch.no_grad():
        given = torch.as_tensor(x).double()
        want = module.encode(given) if arch == "hyptorch" else module.encode(given, theirs)
    want = (want[0] if isinstance(want, tuple) else want).numpy()
    found = weights.embeddings(ckpt, graph=tmp_path / "g.npz")
    assert found.origin == "encoder"
    assert np.abs(found.points - want).max() <= 1e-9 * np.abs(want).max()
    assert found.manifold is not None
    off = np.abs(found.manifold.projx(found.points) - found.points).max(-1)
    assert off.max() <= 1e-9 * np.abs(want).max(), "the manifold is that of the points"


def test_every_architecture_is_here():
    assert {name.partition(" ")[0] for name in CASES} == {*ARCHITECTURES, "tree"}
