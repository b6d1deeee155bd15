"""Zero-shot classification, retrieval, and the way from an image to the root, on both sides of a conversion.

    python -m examples.zero_shot --out out/zero_shot

A small MERU is trained in torch on drawn images of coloured shapes, whose words are their own tokens, so that nothing has to be downloaded.
Its checkpoint is converted, and torch and JAX evaluate it alike: `classify`, `retrieve` and `traverse` take a function that calls a method
of the model, `in_torch(module)` or `in_jax(model, variables)`. With the second they take any MERU or HyCoCLIP, also
`checkpoint.model, checkpoint.variables` of a published file with its own tokenizer; the first two take a CLIP, too.
The folder --out then contains the checkpoint, its conversion, numbers.json and traversal.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

import weights
from port_jax.manifolds import PoincareBall
from port_jax.models.meru import padded_tokens
from port_jax.plots import plot_disk
from reference_torch.layers.lorentz_space import exp_map0
from reference_torch.models.meru import MERU, optimizer_of

Call = Callable[..., np.ndarray]
SIZE = 16
COLOURS = {"red": (1, 0, 0), "green": (0, 0.7, 0), "blue": (0.1, 0.2, 1), "white": (1, 1, 1)}
SHAPES = ("square", "disk", "cross")
WORDS = ["a", "photo", "of", "something", *COLOURS, *SHAPES]
END = len(WORDS) + 1
"""The largest id, which ends every text; texts are padded with 0."""
LENGTH = 8
CONFIG = {"class": "MERU", "heads": 4, "textual": {"arch": "L2_W32_A4"}, "curv_init": 1.0, "learn_curv": True, "entail_weight": 0.2}
SIZES = {"image_size": SIZE, "patch_size": 4, "width": 32, "depth": 2, "embed_dim": 16, "vocab_size": END + 1, "context_length": LENGTH,
         "textual_layers": 2, "textual_width": 32, "textual_heads": 4}  # fmt: skip
STEPS_TO_ROOT = 50
"""As many as in the paper's section 4.3."""


def tokens(texts: Sequence[str]) -> np.ndarray:
    """Ids [n, LENGTH] of texts."""
    found = padded_tokens([[*(1 + WORDS.index(word) for word in text.split()), END] for text in texts], LENGTH)
    return np.pad(found, ((0, 0), (0, LENGTH - found.shape[1])))


def drawn(rng: np.random.Generator, count: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Images [count, 3, SIZE, SIZE], the colour of each and its shape."""
    colours, shapes = ([names[n] for n in rng.integers(0, len(names), count)] for names in (list(COLOURS), SHAPES))
    images = np.empty((count, 3, SIZE, SIZE), np.float32)
    for image, colour, shape in zip(images, colours, shapes, strict=True):
        x, y = np.abs(np.indices((SIZE, SIZE)) - rng.uniform(6, 9, 2)[:, None, None])
        inside = {"square": np.maximum(x, y) < 5, "disk": np.hypot(x, y) < 5, "cross": np.minimum(x, y) < 1.5}[shape]
        image[:] = 0.1 * rng.random((3, SIZE, SIZE))
        image[:, inside] = np.array(COLOURS[colour])[:, None] * rng.uniform(0.8, 1)
    return images, colours, shapes


def captions(rng: np.random.Generator, colours: Sequence[str], shapes: Sequence[str]) -> list[str]:
    """What each image shows, sometimes only its colour or its shape."""
    forms = ("a {0} {1}", "a photo of a {0} {1}", "a {1}", "something {0}")
    return [forms[rng.choice(4, p=(0.3, 0.2, 0.25, 0.25))].format(*pair) for pair in zip(colours, shapes, strict=True)]


def train(path: Path, steps: int, rng: np.random.Generator, rows: int = 64) -> MERU:
    """The module after so many batches, which is saved as the authors' script saves it."""
    torch.manual_seed(0)
    module = MERU({**CONFIG, **SIZES})
    optimizer, scheduler = optimizer_of(module, 2e-3, total_steps=steps, warmup_steps=max(steps // 10, 1))
    for _ in tqdm(range(steps), desc="torch", unit="step", disable=None):
        images, colours, shapes = drawn(rng, rows)
        optimizer.zero_grad()
        module(torch.as_tensor(images), torch.as_tensor(tokens(captions(rng, colours, shapes))))["loss"].backward()
        optimizer.step()
        scheduler.step()
    sections = {"model": module, "optimizer": optimizer, "scheduler": scheduler}
    torch.save({**{name: part.state_dict() for name, part in sections.items()}, "scaler": {}, "iteration": steps}, path)
    return module


def in_torch(module: MERU) -> Call:
    """Calls methods of the torch module, and `classifier` and `to_root` of the port."""

    def call(*args: Any, method: str) -> np.ndarray:
        given = [torch.as_tensor(x) if isinstance(x, np.ndarray) else x for x in args]
        with torch.no_grad():
            if method == "classifier":
                texts = given[0].flatten(0, 1)
                return module.lift_text(module.encode_text(texts, False).unflatten(0, given[0].shape[:2]).mean(1)).numpy()
            if method == "to_root":
                left = torch.linspace(1, 0, int(given[1]))[:, None, None]
                return exp_map0(left * module.log_map0(given[0]), module.curv.exp()).numpy()
            return getattr(module, method)(*given).numpy()

    return call


def in_jax(model: Any, variables: Any) -> Call:
    """Calls methods of the flax module, each as one program: compiling them operation by operation takes longer than the training."""

    @cache
    def program(method: str, numbers: tuple[int, ...]) -> Any:
        return jax.jit(lambda *arrays: model.apply(variables, *arrays, *numbers, method=method))

    def call(*args: Any, method: str) -> np.ndarray:
        arrays = [x for x in args if isinstance(x, np.ndarray)]
        return np.asarray(program(method, tuple(x for x in args if isinstance(x, int)))(*arrays))

    return call


def classify(call: Call, images: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """The class [n] of each image; prompts [classes, k, l] has k texts of each class."""
    scores = call(call(images, method="encode_image"), call(prompts, method="classifier"), method="inner")
    return np.argmax(scores, -1)


def retrieve(call: Call, images: np.ndarray, texts: np.ndarray, count: int) -> np.ndarray:
    """The nearest `count` of the texts [m, l] of each image, [n, count]."""
    scores = call(call(images, method="encode_image"), call(texts, method="encode_text"), method="inner")
    return np.argsort(-scores, -1)[:, :count]


def traverse(call: Call, image: np.ndarray, texts: np.ndarray, steps: int = STEPS_TO_ROOT) -> tuple[np.ndarray, np.ndarray]:
    """The way of an image to the root, which entails everything (arXiv 2304.09172, section 4.3).

    Space parts [steps, d] of points on the geodesic, at equal distances, and for each the one with the largest inner product among the
    texts in whose cone it lies and the root, which is -1.
    """
    way = call(call(image[None], method="encode_image"), steps, method="to_root")[:, 0]
    known = call(texts, method="encode_text")
    inside = call(known[None], way[:, None], method="oxy_angle") <= call(known, method="half_aperture")
    scores = np.where(inside, call(way, known, method="inner"), -np.inf)
    best = np.argmax(np.concatenate([call(way, np.zeros_like(known[:1]), method="inner"), scores], -1), -1)
    return way, best - 1


def disk_points(call: Call, c: float, way: np.ndarray, features: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The way to the root and other features in the Poincaré disk [n, 2]: distances to the root are as they are, and so are directions as
    far as two axes show them: that of the image, and what the first of the features have most of beside it."""
    logs = [call(x, method="log_map0") for x in (way, *features)]
    first = logs[0][0] / np.linalg.norm(logs[0][0])
    second = np.linalg.svd(logs[1] - np.outer(logs[1] @ first, first), full_matrices=False)[2][0]

    def placed(v: np.ndarray) -> np.ndarray:
        flat = v @ np.stack([first, second], 1)
        length = np.linalg.norm(v, axis=-1, keepdims=True)
        half = flat * length / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12) / 2  # of length 2 |v| in the ball's metric
        return np.asarray(PoincareBall(c).expmap0(jnp.asarray(half)))

    return [placed(v) for v in logs]


def picture(call: Call, c: float, images: np.ndarray, texts: Sequence[str], path: Path) -> list[str]:
    """Draws the first image, its way to the root among all images and texts, and how far from the root these are; returns the texts on the
    way, nearest first."""
    ids = tokens(texts)
    way, best = traverse(call, images[0], ids)
    features = call(ids, method="encode_text"), call(images, method="encode_image")
    on_way, of_texts, of_images = disk_points(call, c, way, features)
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(0.5, 1.3, 1))
    names = [*dict.fromkeys("[root]" if n < 0 else str(texts[n]) for n in best.tolist())]
    left.imshow(images[0].transpose(1, 2, 0).clip(0, 1))
    left.set_axis_off()
    left.set_title("\n".join(names), y=-0.1, va="top", fontsize=9)
    plot_disk(of_images, ax=middle, c=c, color="0.75", cmap=None, s=4, label="images")
    plot_disk(of_texts, ax=middle, c=c, color="tab:blue", cmap=None, s=14, label="texts")
    middle.plot(*on_way.T, color="tab:red", lw=1, marker=".", ms=3, label="from the image to the root")
    for line, n in enumerate(dict.fromkeys(n for n in best.tolist() if n >= 0)):
        middle.annotate(texts[n], of_texts[n], fontsize=7, textcoords="offset points", xytext=(6, 8 + 9 * line))
    reach = 1.15 * max(np.abs(points).max() for points in (on_way, of_texts, of_images))
    middle.set(xlim=(-reach, reach), ylim=(-reach, reach))
    middle.legend(frameon=False, fontsize=7, loc="lower left")
    _draw_distances(right, [np.linalg.norm(call(x, method="log_map0"), axis=-1) for x in features])
    figure.savefig(path, dpi=120)
    return names


def _draw_distances(axes: Axes, found: Sequence[np.ndarray]) -> None:
    """As figure 4 of the paper."""
    for lengths, name, color in zip(found, ("texts", "images"), ("tab:blue", "0.6"), strict=True):
        axes.hist(lengths, 20, density=True, color=color, alpha=0.7, label=name)
    axes.set(xlabel="distance to the root", ylabel="density")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def evaluated(call: Call, images: np.ndarray, colours: Sequence[str], shapes: Sequence[str]) -> dict[str, float]:
    """How many images get their shape and their colour from prompts, and their own one of the twelve captions."""
    found = {}
    for kind, names, truth, forms in (
        ("shapes", SHAPES, shapes, ("a {}", "a photo of a {}")),
        ("colours", tuple(COLOURS), colours, ("something {}", "a photo of something {}")),
    ):
        prompts = np.stack([tokens([form.format(name) for form in forms]) for name in names])
        right = classify(call, images, prompts) == np.array([names.index(name) for name in truth])
        found[f"accuracy of {kind}"] = float(np.mean(right))
    texts = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    own = np.array([texts.index(f"a {colour} {shape}") for colour, shape in zip(colours, shapes, strict=True)])
    return {**found, "recall at 1": float(np.mean(retrieve(call, images, tokens(texts), 1)[:, 0] == own))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, converts, evaluates on both sides, and draws one traversal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/zero_shot"), help="folder to write (default: out/zero_shot)")
    parser.add_argument("--steps", type=int, default=600, help="steps of training (default: 600)")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    rng, file = np.random.default_rng(0), args.out / "checkpoint_final.pth"
    module = train(file, args.steps, rng)
    ckpt = weights.load(file, config=CONFIG)
    ckpt.save(args.out / "converted", overwrite=True)
    theirs, ours = in_torch(module), in_jax(ckpt.model, ckpt.variables)
    images, colours, shapes = drawn(rng, 200)
    texts = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    texts += [*(f"a {shape}" for shape in SHAPES), *(f"something {colour}" for colour in COLOURS)]
    pairs = [[call(x, method=how) for call in (theirs, ours)] for x, how in ((images, "encode_image"), (tokens(texts), "encode_text"))]
    found: dict[str, Any] = {"torch": evaluated(theirs, images, colours, shapes), "JAX": evaluated(ours, images, colours, shapes)}
    pairs.append([traverse(call, images[0], tokens(texts))[0] for call in (theirs, ours)])
    found["largest relative difference of features"] = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    found["the first image"] = f"a {colours[0]} {shapes[0]}"
    c = float(np.exp(ckpt.variables["params"]["curv"]))
    found["on its way to the root"] = picture(ours, c, images, texts, args.out / "traversal.png")
    (args.out / "numbers.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
