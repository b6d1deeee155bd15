"""A small model of each architecture with its configuration, and the key of a matrix that is not square."""

from parity_tests.models import (
    cases_gat,
    cases_gcn,
    cases_gil,
    cases_hcnn,
    cases_helm,
    cases_hgcn,
    cases_hnn,
    cases_htgn,
    cases_hybonet,
    cases_hybonet_kg,
    cases_hypformer,
    cases_hypll,
    cases_hyptorch,
    cases_kgemb,
    cases_meru,
    cases_mlp,
    cases_murp,
    cases_poincare_embeddings,
    cases_poincare_resnet,
    cases_shallow,
    cases_tidhy,
)
from reference_torch.models.hgat import HGAT
from reference_torch.models.murp import MuRP

HTGN = cases_htgn.CONFIGS["attention, trained rows"]
LORENTZ = {"manifold": "lorentz", "model": "distance", "dim": 4}
HGAT_CONFIG = {"in_features": 5, "features": [4, 3], "heads": 2, "preset": "gil", "curvature": 0.7, "num_classes": 3, "arch": "hgat"}


def framed(cases, name: str, key: str):
    config = cases.FRAME.config(name)
    return (lambda: (getattr(cases, "reference", cases.FRAME.module)(config), config)), key


# Architecture -> (its module and configuration, the key of a matrix that is not square).
CASES = {
    "hgat": (lambda: (HGAT(**{k: v for k, v in HGAT_CONFIG.items() if k != "arch"}), HGAT_CONFIG), "layers.0.linear.weight"),
    "hgcn": framed(cases_hgcn, "ball, links, trained, local", "encoder.layers.1.agg.att.linear.weight"),
    "hnn": framed(cases_hnn, "ball, links, trained", "encoder.layers.0.linear.weight"),
    "shallow": framed(cases_shallow, "classes, pretrained", "encoder.layers.0.linear.weight"),
    "gcn": framed(cases_gcn, "classes", "encoder.layers.0.linear.weight"),
    "gat": framed(cases_gat, "classes", "encoder.layers.0.attention_1.W"),
    "mlp": framed(cases_mlp, "classes", "encoder.layers.0.linear.weight"),
    "hybonet": framed(cases_hybonet, "classes, attention", "decoder.cls"),
    "htgn": (lambda: (cases_htgn.reference(HTGN), HTGN), "layer2.linear.weight"),
    "gil": (lambda: (cases_gil.reference(cases_gil.BASE, [8]), cases_gil.BASE), "encoder.layers.0.conv_e.linear.weight"),
    "poincare_embeddings": (lambda: (cases_poincare_embeddings.module_of("lorentz", "distance"), LORENTZ), "lt.weight"),
    "hypll": (cases_hypll.case, "fc1.z"),
    "poincare_resnet": (cases_poincare_resnet.case, "fc.z"),
    "hyptorch": (lambda: (cases_hyptorch.module_of("trained"), {"c": 0.6}), "mlr.p_vals"),
    "kgemb": (lambda: cases_kgemb.case("AttH"), "rel_diag.weight"),
    "murp": (lambda: (cases_murp.module_of(MuRP), {}), "rvh.weight"),
    "hybonet_kg": (lambda: (cases_hybonet_kg.module_of(), cases_hybonet_kg.CONFIG), "relation_bias"),
    "tidhy": (cases_tidhy.case, "hypernet.0.weight"),
    "meru": (cases_meru.case, "visual_proj.weight"),
    "helm": (cases_helm.case, "mapping.weight"),
    "hcnn": (lambda: cases_hcnn.case("to poincare"), "decoder.weight_v"),
    "hypformer": (cases_hypformer.case, "trans_conv.fcs.0.linear.weight"),
}
