"""The CLIP baseline beside a witness that shares no code with either side: features, the loss, and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from parity_tests.models import clip_witness
from parity_tests.models.clip_witness import FIXED, Numbers, Sizes, drawn, image_features, text_features
from reference_torch.models.meru import MERU
from weights.checkpoint import Checkpoint, load
from weights.mapping.convert import to_torch

SIZES = Sizes()
ROWS = 5


def given() -> tuple[np.ndarray, np.ndarray]:
    """Images with colours between 0 and 1, and texts of several lengths that the largest id ends, the longest of them as the context."""
    rng = draws.rng(61)
    tokens = np.zeros((ROWS, SIZES.context), np.int32)
    for n, text in enumerate(tokens):
        length = 2 + n % (SIZES.context - 1)
        text[:length] = [*rng.integers(1, SIZES.vocabulary - 1, length - 1), SIZES.vocabulary - 1]
    return rng.random((ROWS, 3, SIZES.image, SIZES.image)), tokens


def numbers_of() -> Numbers:
    """Those of the witness, of which it takes derivatives by what is trained."""
    numbers = drawn(draws.rng(60), SIZES)
    for key, tensor in numbers.items():
        tensor.requires_grad_(key not in FIXED)
    return numbers


def converted(numbers: Numbers, folder: Path) -> Checkpoint:
    """What becomes of a file with these numbers."""
    torch.save({"model": {key: tensor.detach() for key, tensor in numbers.items()}}, folder / "clip.pth")
    return load(folder / "clip.pth", config=SIZES.config)


def in_torch(ckpt: Checkpoint, params: Any) -> dict[str, np.ndarray]:
    """A tree beside the parameters by the keys of the file."""
    value = to_torch(ckpt.entries, {**ckpt.variables, "params": params}, ckpt.constants)
    return {entry.key: value(entry.key) for entry in ckpt.entries if entry.key not in FIXED}


def test_features_loss_and_gradients(tmp_path: Path):
    """Derivatives of the loss and of random cotangents of the features by every number that is trained."""
    numbers, (images, tokens) = numbers_of(), given()
    cotangents = [draws.rng(seed).normal(size=(ROWS, SIZES.embed)) for seed in (62, 63)]
    image, text = image_features(numbers, torch.as_tensor(images), SIZES), text_features(numbers, torch.as_tensor(tokens).long(), SIZES)
    loss = clip_witness.loss(numbers, image, text)
    whole = loss + sum((torch.as_tensor(w) * x).sum() for w, x in zip(cotangents, (image, text), strict=True))
    assert isinstance(whole, torch.Tensor)
    whole.backward()
    ckpt = converted(numbers, tmp_path)

    @jax.jit
    def ours(params: Any) -> Any:
        variables = {**ckpt.variables, "params": params}
        features = [ckpt.model.apply(variables, x, method=f"encode_{kind}") for kind, x in (("image", images), ("text", tokens))]
        value = ckpt.model.apply(variables, images, tokens)["loss"]
        return value + sum(jnp.sum(w * x) for w, x in zip(cotangents, features, strict=True)), (value, features)

    (_, (value, features)), slopes = jax.value_and_grad(ours, has_aux=True)(ckpt.variables["params"])
    np.testing.assert_allclose(features[0], image.detach(), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(features[1], text.detach(), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(value, float(loss.detach()), rtol=1e-12)
    found = in_torch(ckpt, slopes)
    assert {*found} == {key for key in numbers if key not in FIXED}
    for key, slope in found.items():
        want = numbers[key].grad
        assert want is not None
        # a softmax does not see the bias of keys: what is 0 in both is rounding of terms as large as the others of the same tensor
        np.testing.assert_allclose(slope, want, rtol=1e-9, atol=1e-12 * float(want.abs().max()), err_msg=key)
    chosen = ckpt.model.apply(ckpt.variables, features[0], features[1], method="inner")
    np.testing.assert_allclose(chosen, (image @ text.T).detach(), rtol=1e-11, atol=1e-13)


def test_a_class_is_the_mean_of_its_texts(tmp_path: Path):
    """Prompts as unit vectors, their mean, and again a unit vector (the code of CLIP's authors for ImageNet)."""
    numbers, (_, tokens) = numbers_of(), given()
    prompts = np.stack([tokens[:3], tokens[2:]])
    units = torch.stack([text_features(numbers, torch.as_tensor(rows).long(), SIZES) for rows in prompts]).mean(1)
    ckpt = converted(numbers, tmp_path)
    found = ckpt.model.apply(ckpt.variables, prompts, method="classifier")
    np.testing.assert_allclose(found, (units / units.norm(dim=-1, keepdim=True)).detach(), rtol=1e-11, atol=1e-13)


def test_the_reference_is_the_witness():
    """The torch side of the parity tests, under the same keys."""
    numbers, (images, tokens) = numbers_of(), given()
    text = {"textual_layers": SIZES.text_depth, "textual_width": SIZES.text_width, "textual_heads": SIZES.text_heads}
    sizes = {"image_size": SIZES.image, "patch_size": SIZES.patch, "width": SIZES.width, "depth": SIZES.depth, "heads": SIZES.heads}
    words = {"vocab_size": SIZES.vocabulary, "context_length": SIZES.context, "embed_dim": SIZES.embed}
    module = MERU({"class": "CLIP", **text, **sizes, **words}).double()
    assert list(module.state_dict()) == list(numbers)
    module.load_state_dict({key: tensor.detach() for key, tensor in numbers.items()})
    pictures, ids = torch.as_tensor(images), torch.as_tensor(tokens).long()
    want = image_features(numbers, pictures, SIZES), text_features(numbers, ids, SIZES)
    torch.testing.assert_close((module.encode_image(pictures), module.encode_text(ids)), want, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(module(pictures, ids)["loss"], clip_witness.loss(numbers, *want), rtol=1e-12, atol=0.0)
