"""HyperbolicCV's network on a hyperboloid, from the paper's formulas in mpmath (Bdeir et al. 2024, section 4; arXiv 2303.15919).

Points are given by their space parts, images by the spaces of their pixels, [[pixel, ...], ...]. Tensors are a state_dict's, as mpf.
"""

from __future__ import annotations

from typing import Any

from mpmath import asinh, cosh, mpf, sinh, sqrt

from parity_tests.oracle import lorentz
from parity_tests.oracle.stereographic import Vector, dot, plus, times

Image = list[list[Vector]]


def convolved(image: Image, weight: Any, bias: Any, size: int, stride: int, k: Any) -> Image:
    """W [t, s_1, ..., s_K] + b without its first coordinate, t² = k + Σ|s_i|², of each window with origins around the image."""
    pad, width = size // 2, len(image[0][0])

    def pixel(i: int, j: int) -> Vector:
        inside = 0 <= i < len(image) and 0 <= j < len(image[0])
        return image[i][j] if inside else [mpf(0)] * width

    def window(i: int, j: int) -> Vector:
        spaces = [a for di in range(size) for dj in range(size) for a in pixel(i - pad + di, j - pad + dj)]
        joined = [sqrt(k + dot(spaces, spaces)), *spaces]
        return [dot(list(row), joined) + b for row, b in zip(weight[1:], bias[1:], strict=True)]

    return [[window(i, j) for j in range(0, len(image[0]), stride)] for i in range(0, len(image), stride)]


def centroid(points: list[Vector], k: Any) -> Vector:
    """√k a/|a|, a = Σ x."""
    total = [sum(column) for column in zip(*(lorentz.point(p, k) for p in points), strict=True)]
    return times(sqrt(k) / sqrt(-lorentz.inner(total, total)), total)[1:]


def normalised(images: list[Image], of: dict[str, Any], name: str, k: Any, train: bool) -> list[Image]:
    """exp_β(PT_{0→β}(gamma/(var + 1e-5) PT_{μ→0} log_μ x)), in training with μ the centroid and var the mean distance from it."""
    if train:
        mean = centroid([centroid([p for row in image for p in row], k) for image in images], k)
        distances = [lorentz.dist(mean, p, k) for image in images for row in image for p in row]
        var = sum(distances) / len(distances)
    else:
        mean, var = lorentz.expmap0(list(of[f"{name}.running_mean"][1:]), k)[1:], of[f"{name}.running_var"][0]
    scale, beta = of[f"{name}.gamma"][0] / (var + mpf(1) / 10**5), list(of[f"{name}.beta"][1:])

    def moved(x: Vector) -> Vector:
        u = lorentz.transp0back(mean, lorentz.logmap(mean, x, k)[1:], k)[1:]
        return lorentz.expmap(beta, lorentz.transp0(beta, times(scale, u), k)[1:], k)[1:]

    return [[[moved(p) for p in row] for row in image] for image in images]


def relu(images: list[Image]) -> list[Image]:
    return [[[[max(a, mpf(0)) for a in p] for p in row] for row in image] for image in images]


def logit(x: Vector, z: Vector, a: Any, k: Any) -> Any:
    """|z| d(x, H), signed, H through exp_0(a z/|z|) with normal z transported there: √k |z| asinh(<w, x>/(√k |z|))."""
    length = sqrt(dot(z, z))
    w = [sinh(a / sqrt(k)) * length, *times(cosh(a / sqrt(k)), z)]
    return sqrt(k) * length * asinh(lorentz.inner(w, lorentz.point(x, k)) / (sqrt(k) * length))


def logits(images: list[Image], of: dict[str, Any], train: bool) -> list[list]:
    """Of a network of one group with one basic block, whose shapes do not change in it, and of one radius."""
    k = of["encoder.manifold.k"].item()

    def layer(x: list[Image], name: str, n: int) -> list[Image]:
        kernel = f"{name}.{n}.linearized_kernel.weight"
        x = [convolved(image, of[f"{kernel}.weight"], of[f"{kernel}.bias"], 3, 1, k) for image in x]
        return normalised(x, of, f"{name}.{n + 1}", k, train)

    x = relu(layer(images, "encoder.conv1.conv", 0))
    y = layer(relu(layer(x, "encoder.conv2_x.0.conv", 0)), "encoder.conv2_x.0.conv", 3)
    y = [[[plus(p, q) for p, q in zip(*rows, strict=True)] for rows in zip(*pair, strict=True)] for pair in zip(x, y, strict=True)]
    means = [centroid([p for row in image for p in row], k) for image in relu(y)]
    return [[logit(m, list(z), a, k) for z, a in zip(of["decoder.z"], of["decoder.a"], strict=True)] for m in means]


__all__ = ["centroid", "convolved", "logit", "logits", "normalised", "relu"]
