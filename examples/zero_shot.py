"""Zero-shot classification, retrieval, and the way from an image to the root, with a MERU that is trained here on coloured shapes.

    python -m examples.zero_shot --out out/zero_shot

Images are drawn, and words are their own tokens, so that nothing has to be downloaded. `classify`, `retrieve` and `traverse` take any
MERU or HyCoCLIP, a converted one (`model` and `variables` of `weights.restore("converted/")`) with its own tokenizer; the first two take a
CLIP, too.
The folder --out then contains numbers.json and traversal.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from tqdm import tqdm

from port_jax.manifolds import PoincareBall
from port_jax.models import MERU
from port_jax.models.meru import padded_tokens
from port_jax.models.meru_training import optimizer
from port_jax.plots import plot_disk

mpl.use("agg")
import matplotlib.pyplot as plt

SIZE = 16
COLOURS = {"red": (1, 0, 0), "green": (0, 0.7, 0), "blue": (0.1, 0.2, 1), "white": (1, 1, 1)}
SHAPES = ("square", "disk", "cross")
WORDS = ["a", "photo", "of", "something", *COLOURS, *SHAPES]
END = len(WORDS) + 1
"""The largest id, which ends every text; 0 is what texts are padded with."""


def tokens(texts: Sequence[str]) -> np.ndarray:
    """Ids [n, 8] of texts."""
    found = padded_tokens([[*(1 + WORDS.index(word) for word in text.split()), END] for text in texts], 8)
    return np.pad(found, ((0, 0), (0, 8 - found.shape[1])))


def drawn(rng: np.random.Generator, count: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Images [count, 3, SIZE, SIZE], the colour of each and its shape."""
    colours, shapes = (list(rng.choice(list(names), count)) for names in (COLOURS, SHAPES))
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
    return [forms[rng.choice(4, p=(0.4, 0.3, 0.15, 0.15))].format(*pair) for pair in zip(colours, shapes, strict=True)]


def train(model: MERU, steps: int, rng: np.random.Generator, rows: int = 64) -> Any:
    """Variables after so many batches."""
    tx = optimizer(model, 2e-3, total_steps=steps, warmup_steps=steps // 10)

    @jax.jit
    def step(variables: Any, state: Any, images: Any, texts: Any) -> tuple[Any, Any, Any]:
        def loss(params: Any) -> Any:
            return model.apply({**variables, "params": params}, images, texts)["loss"]

        value, slopes = jax.value_and_grad(loss)(variables["params"])
        updates, state = tx.update(slopes, state, variables["params"])
        return {**variables, "params": optax.apply_updates(variables["params"], updates)}, state, value

    variables: Any = None
    state: Any = None
    for _ in tqdm(range(steps), disable=None):
        images, colours, shapes = drawn(rng, rows)
        texts = tokens(captions(rng, colours, shapes))
        if variables is None:
            variables = jax.jit(model.init)(jax.random.key(0), images, texts)
            state = tx.init(variables["params"])
        variables, state, _ = step(variables, state, images, texts)
    return variables


def classify(model: Any, variables: Any, images: np.ndarray, prompts: Any) -> np.ndarray:
    """The class [n] of each image; prompts [classes, k, l] has k texts of each class."""
    call = partial(model.apply, variables)
    return np.argmax(call(call(images, method="encode_image"), call(prompts, method="classifier"), method="inner"), -1)


def retrieve(model: Any, variables: Any, images: np.ndarray, texts: Any, count: int) -> np.ndarray:
    """The nearest `count` of the texts [m, l] of each image, [n, count]."""
    call = partial(model.apply, variables)
    return np.argsort(-call(call(images, method="encode_image"), call(texts, method="encode_text"), method="inner"), -1)[:, :count]


def traverse(model: Any, variables: Any, image: np.ndarray, texts: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Space parts [steps, d] of points on the geodesic from an image to the root; and of each point the nearest of the texts in whose cone
    it lies, or -1 for the root itself, which entails everything."""
    call = partial(model.apply, variables)
    way = call(call(image[None], method="encode_image"), steps, method="to_root")[:, 0]
    known = call(texts, method="encode_text")
    inside = call(known[None], way[:, None], method="oxy_angle") < call(known, method="half_aperture")
    root = jnp.zeros_like(known[:1])
    scores = jnp.where(inside, call(way, known, method="inner"), -jnp.inf)
    scores = jnp.concatenate([scores, call(way, root, method="inner")], -1)
    best = np.argmax(scores, -1)
    return np.asarray(way), np.where(best == len(known), -1, best)


def picture(model: Any, variables: Any, image: np.ndarray, texts: Sequence[str], ids: Any, path: Path) -> list[str]:
    """Draws the way of an image to the root among the texts: distances to the root are true, and so are angles at it, as far as two
    directions show them. Returns the texts on the way."""
    call = partial(model.apply, variables)
    way, best = traverse(model, variables, image, ids, 30)
    known = call(ids, method="encode_text")
    c = 1 / float(np.asarray(call(method="space").k))
    logs = [np.asarray(call(x, method="log_map0")) for x in (way, known)]
    first = logs[0][0] / np.linalg.norm(logs[0][0])
    rest = logs[1] - np.outer(logs[1] @ first, first)
    second = np.linalg.svd(rest, full_matrices=False)[2][0]

    def placed(v: np.ndarray) -> np.ndarray:
        flat = v @ np.stack([first, second], 1)
        length = np.linalg.norm(v, axis=-1, keepdims=True)
        return flat * length / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)

    # Half of the vectors: a tangent vector v at the origin has length 2 |v| in the ball.
    points = [np.asarray(PoincareBall(c).expmap0(jnp.asarray(placed(v) / 2))) for v in logs]
    axes = plot_disk(points[1], c=c, color="tab:blue", cmap=None, s=20)
    axes.plot(*points[0].T, color="tab:orange", marker=".", zorder=3)
    for name, at in zip(texts, points[1], strict=True):
        axes.annotate(name, at, fontsize=6, textcoords="offset points", xytext=(4, 2))
    named = ["[root]" if n < 0 else texts[n] for n in best]
    axes.set_title(f"from an image to the root, c = {c:.3g}: {' > '.join(dict.fromkeys(named))}", fontsize=8)
    axes.figure.savefig(path, dpi=150)  # pyright: ignore[reportAttributeAccessIssue]
    plt.close(axes.figure)  # pyright: ignore[reportArgumentType]
    return list(dict.fromkeys(named))


def main() -> None:
    """Trains, classifies shapes and colours, retrieves captions, and draws one traversal."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("out/zero_shot"))
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    model = MERU(image_size=SIZE, patch_size=4, width=32, depth=2, heads=4, vocab_size=END + 1, context_length=8, textual_width=32,
                 textual_layers=2, textual_heads=4, embed_dim=16)  # fmt: skip
    variables = train(model, given.steps, rng)
    images, colours, shapes = drawn(rng, 200)
    found: dict[str, Any] = {}
    for kind, names, truth, forms in (
        ("shapes", SHAPES, shapes, ("a {}", "a photo of a {}")),
        ("colours", tuple(COLOURS), colours, ("something {}", "a photo of something {}")),
    ):  # fmt: skip
        prompts = np.stack([tokens([form.format(name) for form in forms]) for name in names])
        right = classify(model, variables, images, prompts) == [names.index(name) for name in truth]
        found[f"accuracy of {kind}"] = float(np.mean(right))
    texts = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    own = np.array([texts.index(f"a {colour} {shape}") for colour, shape in zip(colours, shapes, strict=True)])
    found["recall at 1"] = float(np.mean(retrieve(model, variables, images, tokens(texts), 1)[:, 0] == own))
    given.out.mkdir(parents=True, exist_ok=True)
    general = [*texts, *(f"a {shape}" for shape in SHAPES), *(f"something {colour}" for colour in COLOURS)]
    found["on the way to the root"] = picture(model, variables, images[0], general, tokens(general), given.out / "traversal.png")
    found["the image"] = f"a {colours[0]} {shapes[0]}"
    (given.out / "numbers.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
