"""The table of each architecture, one file each. A new one is a file and a line here."""

from weights.mapping.port import Port
from weights.models.gat import GAT
from weights.models.gcn import GCN
from weights.models.gil import GIL
from weights.models.hcnn import HCNN
from weights.models.helm import HELM
from weights.models.hgat import HGAT
from weights.models.hgcn import HGCN
from weights.models.hnn import HNN
from weights.models.htgn import HTGN
from weights.models.hybonet import HyboNet
from weights.models.hybonet_kg import HYBONET_KG
from weights.models.hypformer import HYPFORMER
from weights.models.hypll import HYPLL
from weights.models.hyptorch import HYPTORCH
from weights.models.kgemb import KGEMB
from weights.models.meru import MERU
from weights.models.mlp import MLP
from weights.models.murp import MURP
from weights.models.poincare_embeddings import POINCARE_EMBEDDINGS
from weights.models.poincare_resnet import POINCARE_RESNET
from weights.models.shallow import Shallow
from weights.models.tidhy import TIDHY

ARCHITECTURES: dict[str, Port] = {
    table.name: table
    for table in (
        HGAT,
        HTGN,
        GIL,
        POINCARE_EMBEDDINGS,
        HYPLL,
        POINCARE_RESNET,
        HYPTORCH,
        KGEMB,
        MURP,
        HYBONET_KG,
        TIDHY,
        MERU,
        HELM,
        HCNN,
        HYPFORMER,
        HGCN,
        HNN,
        GCN,
        GAT,
        MLP,
        Shallow,
        HyboNet,
    )
}

__all__ = ["ARCHITECTURES"]
