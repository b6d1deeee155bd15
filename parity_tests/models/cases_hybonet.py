"""Configurations of HyboNet, and random models of them."""

from parity_tests import draws
from parity_tests.models.conversion import randomised
from parity_tests.models.graph_models import CLASSES, Frame
from reference_torch.models.hybonet import HyboNet

BASE = {"manifold": "Lorentz", "c": 1.0, "dim": 4, "bias": 1, "dropout": 0.0, "local_agg": 1}
CONFIGS = {
    "classes, attention": {"task": "nc", "n_classes": CLASSES, "num_layers": 3, "act": "relu", "use_att": 1},
    "links, attention": {"task": "lp", "num_layers": 2, "act": "relu", "use_att": 1},
    "links": {"task": "lp", "num_layers": 2, "act": None, "use_att": 0, "bias": 0},
}
FRAME = Frame(HyboNet, CONFIGS, 0.9, BASE, ("model", "manifold", "c", "local_agg"))


def reference(config: dict) -> HyboNet:
    draws.seed_torch(5)
    module = HyboNet(**{k: v for k, v in config.items() if k not in FRAME.carried})
    keep = [key for key, _ in module.named_parameters() if key.endswith(("manifold.k", "agg.bias"))]
    for key, p in module.named_parameters():
        if key.endswith("agg.bias"):
            p.data.fill_(0.7)  # the start, 20, saturates the sigmoid: no gradient to compare
    randomised(module, 0.9, keep=keep).eval()  # keys and queries have dropout whatever the settings say
    if module.decoder is not None:
        module.decoder.cls.data = module.decoder.manifold.projx(module.decoder.cls.data)  # on it in float64 too
    return module
