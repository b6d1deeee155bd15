"""MLP with the configurations of GCN."""

from parity_tests.models.cases_gcn import CONFIGS
from parity_tests.models.graph_models import Frame
from reference_torch.models.mlp import MLP

FRAME = Frame(MLP, CONFIGS, 1.5)
