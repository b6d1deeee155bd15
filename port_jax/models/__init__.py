"""Models as linen modules, with `encode` for embeddings, a call for class logits, and `score` for links."""

from port_jax.models.gat import GAT
from port_jax.models.gcn import GCN
from port_jax.models.gil import GIL
from port_jax.models.hcnn import HCNN
from port_jax.models.helm import HELM
from port_jax.models.hgat import HGAT
from port_jax.models.hgcn import HGCN
from port_jax.models.hnn import HNN
from port_jax.models.htgn import HTGN
from port_jax.models.hybonet import HyboNet
from port_jax.models.hybonet_kg import HyboNetKG
from port_jax.models.hypformer import Hypformer
from port_jax.models.hypll import HypLLConvNet, HypLLEmbedding, HypLLResNet
from port_jax.models.hyptorch import HypTorch
from port_jax.models.kgemb import KGEmb
from port_jax.models.meru import MERU
from port_jax.models.mlp import MLP
from port_jax.models.murp import MuRP
from port_jax.models.poincare_embeddings import PoincareEmbeddings
from port_jax.models.poincare_resnet import PoincareResNet
from port_jax.models.shallow import Shallow
from port_jax.models.tidhy import TiDHy

__all__ = [
    "GAT",
    "GCN",
    "GIL",
    "HCNN",
    "HELM",
    "HGAT",
    "HGCN",
    "HNN",
    "HTGN",
    "MERU",
    "MLP",
    "HyboNet",
    "HyboNetKG",
    "HypLLConvNet",
    "HypLLEmbedding",
    "HypLLResNet",
    "HypTorch",
    "Hypformer",
    "KGEmb",
    "MuRP",
    "PoincareEmbeddings",
    "PoincareResNet",
    "Shallow",
    "TiDHy",
]
