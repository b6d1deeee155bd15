"""A small model of each architecture as `verify` compares it, and conversions gone wrong that it has to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import optax
import torch

from parity_tests import draws
from parity_tests.models import (
    cases_gil,
    cases_hcnn,
    cases_helm,
    cases_htgn,
    cases_hybonet_kg,
    cases_hypformer,
    cases_hypll,
    cases_hyptorch,
    cases_kgemb,
    cases_meru,
    cases_murp,
    cases_poincare_embeddings,
    cases_poincare_resnet,
    cases_shallow,
    cases_tidhy,
)
from parity_tests.models.conversion import NODES, randomised
from parity_tests.models.graph_models import FEATURES, theirs
from parity_tests.models.graph_models import NODES as ROWS
from parity_tests.weights.helpers import Net
from reference_torch.graphs.graph import Graph
from reference_torch.models import gat, gcn, gil, hgat, hgcn, hnn, htgn, hybonet, mlp, murp, shallow
from reference_torch.optim.from_torch import hypll, repositories
from reference_torch.optim.riemannian_adam import OldGeoopt
from weights.checkpoint import Checkpoint
from weights.mapping.entries import flatten, place

Plant = Callable[[Checkpoint], Checkpoint]


def changed(change: Callable[[dict[str, Any], Callable[[str], str]], dict[str, Any]]) -> Plant:
    """The checkpoint with other variables: `change` is given them by path, and the path of each key."""

    def plant(ckpt: Checkpoint) -> Checkpoint:
        flat, path = flatten(ckpt.variables), {e.key: str(e.path) for e in ckpt.entries}
        tree: dict = {}
        for name, value in {**flat, **change(flat, path.__getitem__)}.items():
            place(tree, name, value)
        return replace(ckpt, variables=tree)

    return plant


def negated(key: str) -> Plant:
    return changed(lambda flat, at: {at(key): -flat[at(key)]})


def rolled(key: str) -> Plant:
    return changed(lambda flat, at: {at(key): jnp.roll(flat[at(key)], 1, 0)})


def transposed(key: str) -> Plant:
    return changed(lambda flat, at: {at(key): jnp.swapaxes(flat[at(key)], -1, -2)})


def swapped(one: str, two: str) -> Plant:
    return changed(lambda flat, at: {at(one): flat[at(two)], at(two): flat[at(one)]})


def another(**fields: Any) -> Plant:
    """Fixed settings that no variable holds: curvatures."""
    return lambda ckpt: replace(ckpt, model=ckpt.model.clone(**fields))


def hurried(ckpt: Checkpoint) -> Checkpoint:
    """Updates a hundredth too long."""
    update = ckpt.optimizer.update

    def longer(*args: Any, **extra: Any) -> Any:
        updates, state = update(*args, **extra)
        return jax.tree.map(lambda u: 1.01 * u, updates), state

    return replace(ckpt, optimizer=optax.GradientTransformation(ckpt.optimizer.init, longer))


def miscounted(ckpt: Checkpoint) -> Checkpoint:
    """One step more in the optimizer's state."""
    whole = jax.tree.map(lambda n: jnp.issubdtype(jnp.asarray(n).dtype, jnp.integer), ckpt.opt_state)
    return replace(ckpt, opt_state=jax.tree.map(lambda n, count: n + count, ckpt.opt_state, whole))


@dataclass(frozen=True)
class Case:
    """A small model, what its configuration says, what it is trained on for three steps, and conversions gone wrong."""

    make: Callable[[], tuple[torch.nn.Module, dict[str, Any]]]
    run: Callable[[Any, torch.dtype], Any]
    plants: dict[str, Plant]
    optimizer: Any = geoopt.optim.RiemannianAdam
    misled: Plant = miscounted
    """What makes the steps wrong."""
    options: dict[str, Any] = field(default_factory=dict)


def node_case(name: str, kind: type, plants: dict[str, Plant], optimizer: Any = geoopt.optim.RiemannianAdam, **own: Any) -> Case:
    config = {"model": name, "task": "lp", "num_layers": 1, "feat_dim": FEATURES, "dim": FEATURES, "manifold": "Euclidean", "c": 1.0,
              "act": "tanh", "bias": 1, "dropout": 0.0, "r": 2.0, "t": 0.7, **own}  # fmt: skip

    def make() -> tuple[torch.nn.Module, dict[str, Any]]:
        draws.seed_torch(1)
        module = randomised(kind(**{k: v for k, v in config.items() if k not in ("model", "pretrained_embeddings")}), 0.7)
        if config["c"] is None:
            module.encoder.layers[0].linear.c.data = torch.tensor([0.6], dtype=torch.float64)
        return cases_shallow.placed(module) if isinstance(module, shallow.Shallow) else module, config

    return Case(make, theirs, plants, optimizer)


def hybonet_case() -> tuple[torch.nn.Module, dict[str, Any]]:
    draws.seed_torch(5)
    module = hybonet.HyboNet(FEATURES + 1, FEATURES + 1, 1, task="lp", use_att=True)
    agg: Any = module.encoder.layers[0].agg  # pyright: ignore
    agg.bias.data.fill_(0.7)
    agg.scale.data.fill_(60.0)  # at the start's 2.4 the weights of far points vanish, and a centroid without weights is no point
    return randomised(module, 0.9, keep=[key for key, _ in module.named_parameters() if key.endswith(("manifold.k", "agg.bias"))]), {
        "model": "HyboNet", "act": None, "dropout": 0.0, "c": 1.0}  # fmt: skip


def layers_case() -> tuple[torch.nn.Module, dict[str, Any]]:
    draws.seed_torch(0)
    module = htgn.Convolutions(["layers.0"], FEATURES, [3], heads=1, aggregation="att", concat_last=False, curvature=[0.7, 1.6],
                               fixed_curvature=False)  # fmt: skip
    return randomised(module, keep=("c",)), {"aggregation": "att", "fixed_curvature": 0}


def htgn_case() -> tuple[torch.nn.Module, dict[str, Any]]:
    draws.seed_torch(0)
    module = htgn.HTGN(NODES, FEATURES, 2, 4, aggregation="deg", use_hta=True)
    randomised(module, keep=("c",)).c.data = cases_htgn.ROWS.double()
    return module, {"aggregation": "deg", "use_hta": 1, "trainable_feat": 0, "fixed_curvature": 0}


def gil_case() -> tuple[torch.nn.Module, dict[str, Any]]:
    draws.seed_torch(1)
    config = {**cases_gil.BASE, "task": "lp", "c": None}
    module = randomised(gil.GIL(FEATURES, [FEATURES], 1, learnable_curvature=True), keep=("c",))
    module.c.data = torch.tensor([0.7], dtype=torch.float64)
    return module, {**config, "n_heads": 1}


def hgat_case() -> tuple[torch.nn.Module, dict[str, Any]]:
    draws.seed_torch(2)
    config = {"in_features": 5, "features": [5], "heads": 1, "preset": "hat", "curvature": [0.6, 1.4], "activation": "tanh"}
    return randomised(hgat.HGAT(**config), 0.7, keep=("manifolds.0.isp_c", "manifolds.1.isp_c")), {**config, "arch": "hgat"}


def on_unweighted(module: Any, dtype: torch.dtype) -> Any:
    x = torch.as_tensor(0.3 * torch.randn(NODES, FEATURES, generator=draws.generator(3)), dtype=dtype)
    graph = Graph(cases_gil.TORCH_GRAPH.senders, cases_gil.TORCH_GRAPH.receivers, NODES)
    h = module.encode(x, graph)
    return (*h, module.score(h, torch.as_tensor(cases_gil.PAIRS))) if isinstance(h, tuple) else (h,)


def swapped_curvatures(ckpt: Checkpoint) -> Checkpoint:
    return replace(ckpt, model=ckpt.model.clone(curvature=ckpt.model.curvature[::-1]))


WEIGHT, BIAS = "encoder.layers.0.linear.weight", "encoder.layers.0.linear.bias"
DENSE = {"sign": negated(BIAS), "transpose": transposed(WEIGHT)}
CASES: dict[str, Case] = {
    "hgcn": node_case("HGCN", hgcn.HGCN, {**DENSE, "curvature": swapped("encoder.layers.0.linear.c", "c")},
                      partial(torch.optim.Adam, weight_decay=0.1), manifold="PoincareBall", c=None, use_att=1, local_agg=0),
    "hnn": node_case("HNN", hnn.HNN, {**DENSE, "curvature": another(c=1.4)}, manifold="Hyperboloid", c=1.5,
                     feat_dim=FEATURES + 1, dim=FEATURES + 1),
    "shallow": node_case("Shallow", shallow.Shallow,
                         {"sign": negated("encoder.lt"), "order": rolled("encoder.lt"), "curvature": another(c=0.8)},
                         repositories.HGCN, manifold="PoincareBall", c=0.7, num_layers=0,
                         n_nodes=ROWS, use_feats=0, pretrained_embeddings=None),
    "gcn": node_case("GCN", gcn.GCN, DENSE),
    "gat": node_case("GAT", gat.GAT, {"sign": negated("encoder.layers.0.attention_0.a"),
                                      "transpose": transposed("encoder.layers.0.attention_0.W")}, n_heads=1, alpha=0.3),
    "mlp": node_case("MLP", mlp.MLP, DENSE),
    "hybonet": Case(hybonet_case, theirs, {
        "sign": negated("encoder.layers.0.linear.weight.bias"), "transpose": transposed("encoder.layers.0.linear.weight.weight"),
        "query for key": swapped(*(f"encoder.layers.0.agg.{name}_linear.weight.weight" for name in ("key", "query"))),
    }, partial(repositories.Hybonet, weight_decay=0.1, stabilize=3)),
    "hybonet_kg": Case(lambda: (cases_hybonet_kg.module_of(), cases_hybonet_kg.CONFIG), cases_hybonet_kg.theirs, {
        "sign": negated("relation_bias"), "transpose": transposed("relation_transform"), "swap": swapped("bias_head", "bias_tail"),
    }),
    "htgn": Case(htgn_case, cases_htgn.theirs, {"sign": negated("layer1.linear.bias"), "transpose": transposed("layer2.linear.weight"),
                                               "curvature": rolled("c"), "gates": rolled("gru.bias_ih")}),
    "htgn layers": Case(layers_case, on_unweighted, {"curvature": rolled("c")}),
    "gil": Case(gil_case, on_unweighted, {"sign": negated("encoder.layers.0.conv.hy_linear.bias"),
                                          "transpose": transposed("encoder.layers.0.conv.hy_linear.weight"),
                                          "curvature": changed(lambda flat, at: {at("c"): flat[at("c")] + 0.1})}, torch.optim.Adam),
    "kgemb": Case(lambda: cases_kgemb.case("RefH"), cases_kgemb.theirs, {
        "sign": negated("rel.weight"), "curvature": rolled("c"), "order": rolled("entity.weight"),
    }, torch.optim.Adam),
    "murp": Case(lambda: (cases_murp.module_of(murp.MuRP), {}), cases_murp.theirs,
                 {"sign": negated("Wu"), "swap": swapped("bs", "bo"), "order": rolled("rvh.weight")},
                 repositories.MuRP, hurried),
    "poincare_embeddings": Case(
        lambda: (cases_poincare_embeddings.module_of("lorentz", "distance"), {"manifold": "lorentz", "model": "distance"}),
        cases_poincare_embeddings.theirs, {"order": rolled("lt.weight")}, repositories.PoincareEmbeddings, hurried),
    "hyptorch": Case(lambda: (cases_hyptorch.module_of("trained"), {"c": 0.6}), cases_hyptorch.theirs,
                     {"sign": negated("tp.xp"), "swap": swapped("mlr.a_vals", "mlr.p_vals"),
                      "curvature": changed(lambda flat, at: {at("tp.c"): flat[at("tp.c")] + 0.1})}, torch.optim.Adam),
    "hypll": Case(partial(cases_hypll.case, "embedding, trained curvature"), cases_hypll.theirs, {
        "order": rolled("weight"), "curvature": changed(lambda flat, at: {at("manifold.c.value"): flat[at("manifold.c.value")] + 0.1}),
    }, partial(hypll.RiemannianSGD, momentum=0.8), hurried),
    "poincare_resnet": Case(cases_poincare_resnet.case, cases_poincare_resnet.theirs, {
        "sign": negated("fc.bias"), "curvature": another(curvature=0.9), "swap": swapped("bn.norm.mean", "group1.0.bn1.norm.mean"),
        "window": changed(lambda flat, at: {at("conv.weights"): jnp.swapaxes(flat[at("conv.weights")], 0, 1)}),
    }),
    "hgat": Case(hgat_case, on_unweighted, {"sign": negated("layers.0.linear.bias"), "transpose": transposed("layers.0.linear.weight"),
                                            "curvature": swapped_curvatures},
                 OldGeoopt, options={"optimizer": "RiemannianAdam"}),
    "tidhy": Case(cases_tidhy.case, cases_tidhy.theirs, {
        "sign": negated("hypernet.4.bias"), "transpose": transposed("hypernet.3.weight"), "order": rolled("temporal"),
        "swap": swapped("hypernet.1.weight", "hypernet.1.bias"),
    }, torch.optim.AdamW),
    "meru": Case(cases_meru.case, cases_meru.theirs, {
        "sign": negated("visual.blocks.0.mlp.fc2.bias"), "transpose": transposed("textual.resblocks.0.attn.out_proj.weight"),
        "order": rolled("textual.posit_embed"), "swap": swapped("visual_alpha", "textual_alpha"),
        "query for key": rolled("textual.resblocks.1.attn.in_proj_weight"),
        "curvature": changed(lambda flat, at: {at("curv"): flat[at("curv")] + 0.1}),
    }, torch.optim.AdamW),
    "helm": Case(cases_helm.case, cases_helm.theirs, {
        "sign": negated("resblocks.0.mlp.w2.linear.bias"), "order": rolled("token_embed.embedding"), "rotations": rolled("freqs_complex"),
        "swap": swapped("resblocks.0.res1.w_y", "resblocks.0.res2.w_y"), "curvature": another(k_hidden=0.9),
        "query for key": swapped("resblocks.0.attn.Wq.weight", "resblocks.0.attn.Wk.weight"), "scale": another(residual_scale=9.0),
    }),
    "hcnn": Case(partial(cases_hcnn.case, "to poincare"), cases_hcnn.theirs, {
        "sign": negated("decoder.bias"), "order": rolled("encoder.conv2_x.0.conv.0.weight"),
        "swap": swapped("encoder.conv1.1.running_mean", "encoder.conv1.1.running_var"),
        "curvature": changed(lambda flat, at: {at("dec_manifold.isp_c"): flat[at("dec_manifold.isp_c")] + 0.1}),
        "clipping": another(clip_features=0.5),
    }),
    "hypformer": Case(partial(cases_hypformer.case, "medium"), cases_hypformer.theirs, {
        "sign": negated("decode_trans.bias"), "transpose": transposed("trans_conv.convs.0.v_map_mlp.weight"),
        "query for key": swapped(*(f"trans_conv.convs.0.{name}.0.linear.weight" for name in ("Wq", "Wk"))),
        "order": rolled("decode_trans.cls"), "swap": swapped("graph_conv.bns.0.running_mean", "graph_conv.bns.0.running_var"),
        "curvature": another(k_in=0.9), "variant": another(variant="large"), "power": another(power_k=3.0),
    }, cases_hypformer.Both),
    "tree": Case(lambda: (Net(dtype=torch.float64), {}), lambda net, dtype: (net.lin(net.ball.logmap0(net.emb)),),
                 {"sign": negated("lin.bias"), "order": rolled("emb")}),
}  # fmt: skip


def load_ball(path: Path) -> Any:
    """The ball of the curvature that the file holds, raw."""
    from port_jax.manifolds import PoincareBall
    from weights.mapping.curvature_settings import softplus

    return PoincareBall(softplus(float(torch.load(path)["model"]["ball.isp_c"])))
