"""Hyperbolic deep learning in JAX, with the numbers of geoopt and PyTorch.

    manifolds      Riemannian manifolds as frozen pytrees                    optim      optimizers on them, as optax transformations
    graphs         graphs, segment operations, sparse products               layers     layers of hyperbolic networks (linen)
    models         whole architectures (linen)                               data       datasets, splits, neighbour sampling
    training       a loop for jitted steps, with checkpoints                 samplers   Markov chain Monte Carlo on manifolds

The modules beside them each cover one subject: means (`frechet`), distances of all pairs (`pairwise`), matrix functions (`linalg`,
`spectral`), curvature tensors of a chart (`riemannian_geometry`), `distributions`, `losses`, `metrics`, `initializers`, `plots`, the
allocator's settings (`memory`), compiled programs on disk (`compilation`) and names of types (`types`). `import port_jax` imports none of
them: import the package or module that you need. Only the call `port_jax.compilation_cache()` stands here itself.
"""

from port_jax.compilation import compilation_cache

# The other names are submodules, which a star import brings in and this file does not.
# pyright: reportUnsupportedDunderAll=false

__all__ = [
    "compilation",
    "compilation_cache",
    "data",
    "distributions",
    "frechet",
    "graphs",
    "initializers",
    "layers",
    "linalg",
    "losses",
    "manifolds",
    "memory",
    "metrics",
    "models",
    "optim",
    "pairwise",
    "plots",
    "riemannian_geometry",
    "samplers",
    "spectral",
    "training",
    "types",
]
