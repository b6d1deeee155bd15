"""Graph convolution and graph attention by edges against the formulas with matrices."""

import numpy as np
import torch
from torch.nn import functional as F

from parity_tests import draws
from parity_tests.models.graph_models import NODES, dense_adjacency
from reference_torch.graphs.graph import Graph
from reference_torch.layers.gcn import AttentionHead, GraphConvolution


def simple_graph() -> tuple[torch.Tensor, Graph]:
    """An adjacency without repeated edges, in which every node has a loop, and the same as edges."""
    dense = dense_adjacency()
    dense.fill_diagonal_(0.5)
    receivers, senders = torch.nonzero(dense, as_tuple=True)
    return dense, Graph(senders, receivers, NODES, dense[receivers, senders])


def test_convolution_is_a_product_with_the_adjacency():
    draws.seed_torch(0)
    dense, graph = simple_graph()
    module = GraphConvolution(5, 3, 0.0, torch.tanh, True).double()
    x = torch.randn(NODES, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x, graph), torch.tanh(dense @ module.linear(x)), rtol=1e-12, atol=1e-12)


def test_attention_is_the_masked_dense_formula():
    """exp(-LeakyReLU(a . [h_i, h_j])) where the adjacency is not 0, divided by its row sums."""
    draws.seed_torch(1)
    dense, graph = simple_graph()
    module = AttentionHead(5, 3, 0.0, 0.2, F.elu).double()
    x = torch.randn(NODES, 5, dtype=torch.float64)
    h = x @ module.W
    left, right = (v.expand(NODES, NODES, 3) for v in (h[:, None], h[None]))
    e = torch.exp(-F.leaky_relu((torch.cat([left, right], -1) * module.a).sum(-1), 0.2)) * (dense != 0)
    expected = F.elu(e @ h / e.sum(1, keepdim=True))
    torch.testing.assert_close(module(x, graph), expected, rtol=1e-12, atol=1e-12)
    assert np.isfinite(expected.detach().numpy()).all()
