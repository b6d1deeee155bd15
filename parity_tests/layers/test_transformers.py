"""The vision and the text transformer beside torch's own encoder layers, which know nothing of this project, and beside their originals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws
from port_jax.layers import MultiheadAttention, TextTransformer, VisionTransformer
from port_jax.layers.vision_transformer import patch_positions
from reference_torch.layers import text_transformer, vision_transformer

LAYER = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}


def encoder(width: int, heads: int, layers: int) -> torch.nn.TransformerEncoder:
    layer = torch.nn.TransformerEncoderLayer(width, heads, 4 * width, **LAYER)
    draws.seed_torch(2)
    found = torch.nn.TransformerEncoder(layer, layers, torch.nn.LayerNorm(width), enable_nested_tensor=False).double()
    with torch.no_grad():
        for p in found.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return found


def matrix(linear: Any) -> dict[str, np.ndarray]:
    return {"kernel": linear.weight.detach().numpy().T, "bias": linear.bias.detach().numpy()}


def norm(layer: Any) -> dict[str, np.ndarray]:
    return {"scale": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy()}


def test_the_text_transformer_is_torchs_encoder_with_a_causal_mask():
    theirs, rng = encoder(8, 2, 2), draws.rng(0)
    table, places, tokens = rng.normal(size=(11, 8)), rng.normal(size=(6, 8)), rng.integers(0, 11, (3, 5))
    params: Any = {"token_embed": {"embedding": table}, "posit_embed": places, "ln_final": norm(theirs.norm)}
    for n, layer in enumerate(theirs.layers):
        attention: Any = layer.self_attn
        params[f"resblocks_{n}"] = {
            "attn": {"in_proj_weight": attention.in_proj_weight.detach().numpy(), "in_proj_bias": attention.in_proj_bias.detach().numpy(),
                     "out_proj": matrix(attention.out_proj)},
            "ln_1": norm(layer.norm1), "ln_2": norm(layer.norm2), "c_fc": matrix(layer.linear1), "c_proj": matrix(layer.linear2),
        }  # fmt: skip
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    want = theirs(torch.as_tensor(table[tokens] + places[:5]), mask).detach()
    found = jax.jit(TextTransformer(11, 6, 8, 2, 2).apply)({"params": params}, tokens)
    np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-12)


def test_the_vision_transformer_is_torchs_encoder_on_patches():
    """Patches are read by hand: rows of patches, each an inner product with the kernel."""
    theirs, rng = encoder(12, 3, 2), draws.rng(1)
    images, kernel, bias, start = (rng.normal(size=shape) for shape in ((2, 3, 8, 8), (4, 4, 3, 12), (12,), (1, 1, 12)))
    fixed = patch_positions(2, 12).astype(np.float64)
    params: Any = {"cls_token": start, "patch_embed": {"kernel": kernel, "bias": bias}, "norm": norm(theirs.norm)}
    for n, layer in enumerate(theirs.layers):
        attention: Any = layer.self_attn
        qkv = {"kernel": attention.in_proj_weight.detach().numpy().T, "bias": attention.in_proj_bias.detach().numpy()}
        params[f"blocks_{n}"] = {"norm1": norm(layer.norm1), "norm2": norm(layer.norm2), "qkv": qkv, "proj": matrix(attention.out_proj),
                                 "fc1": matrix(layer.linear1), "fc2": matrix(layer.linear2)}  # fmt: skip
    patches = np.stack(
        [[np.einsum("chw,hwco->o", image[:, y : y + 4, x : x + 4], kernel) + bias for y in (0, 4) for x in (0, 4)] for image in images]
    )
    rows = np.concatenate([np.broadcast_to(start, (2, 1, 12)), patches], 1) + fixed
    want = theirs(torch.as_tensor(rows)).detach()[:, 0]
    model = VisionTransformer(8, 4, 12, 2, 3)
    found = jax.jit(model.apply)({"params": params, "frozen": {"pos_embed": fixed}}, images)
    np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-12)


def test_positions():
    """sin and cos of both coordinates of a patch, in this order, at frequencies 1 and 10000^(-1/2); zeros for the class token."""
    found = patch_positions(3, 8)
    np.testing.assert_allclose(found, vision_transformer.positions(3, 8), atol=1e-6)
    i, j = 2, 1
    want = [np.sin(i), np.sin(i / 100), np.cos(i), np.cos(i / 100), np.sin(j), np.sin(j / 100), np.cos(j), np.cos(j / 100)]
    np.testing.assert_allclose(found[0, 1 + 3 * i + j], want, rtol=1e-6)
    assert not found[0, 0].any()
    with pytest.raises(ValueError, match="multiple of 4"):
        patch_positions(3, 6)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="image_size is 10"):
        VisionTransformer(10, 4, 12, 1, 3)
    with pytest.raises(ValueError, match="5 heads"):
        VisionTransformer(8, 4, 12, 1, 5)
    with pytest.raises(ValueError, match="4 in a row"):
        jax.eval_shape(TextTransformer(11, 3, 8, 1, 2).init, draws.key(0), np.ones((1, 4), int))
    assert text_transformer.TextTransformer(11, 3, 8, 1, 2).attn_mask.sum() == 3


def test_attention_in_half_precision_has_a_softmax_in_float32():
    rng = draws.rng(4)
    x = jnp.asarray(rng.normal(size=(2, 5, 8)), jnp.float32)
    layer = MultiheadAttention(8, 2)
    params = layer.init(draws.key(1), x, x, x)
    low, weights = MultiheadAttention(8, 2, jnp.bfloat16).apply(params, x, x, x)
    high, _ = layer.apply(params, x, x, x)
    assert low.dtype == jnp.bfloat16
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert 0 < float(jnp.abs(low.astype(jnp.float32) - high).max()) < 0.05
