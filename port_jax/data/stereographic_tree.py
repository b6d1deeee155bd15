"""A tree grown by hierarchical diffusion in a stereographic space, with noisy observations of its nodes."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.arguments import KEY, Kind, instance, number, optional, takes, whole
from port_jax.manifolds.stereographic import StereographicModel

__all__ = ["StereographicTreeDataset"]


def _floating(dtype: Any) -> bool:
    try:
        return bool(jnp.issubdtype(jnp.dtype(dtype), jnp.floating))
    except (TypeError, ValueError):  # no type
        return False


class StereographicTreeDataset:
    """geoopt's synthetic data (Mathieu et al. 2019, section 5.1): nodes of a tree, level by level, and observations around them.

    From the origin down to `depth`, the `numberOfChildren` children of a node lie at distance `dist_children` from it, orthogonal to
    its own direction; in two dimensions two children lie opposite to each other. Each node has `numberOfsiblings` observations,
    normally distributed in the tangent space of the origin around its coordinates with standard deviation √sigma_sibling, as the
    ball's `random` draws them.

    `origin_data` `[N, dim]` are the nodes and `data` `[N numberOfsiblings, dim]` the observations, those of one node together.
    `labels` `[…, depth + 1]` are paths of node numbers: `labels[i, j]` is the ancestor at depth j + 1 of observation i's node, or
    the node itself, and -1 beyond; for the root, `labels[i, 0]` is 0. `origin_labels` `[N, depth]` are the nodes' paths without the last
    entry, which is always -1, and `num_classes` is the number of nodes.
    """

    @takes(
        key=KEY,
        ball=instance("a ball of port_jax.manifolds, PoincareBall(1.0), for example", StereographicModel),
        dim=whole(2),
        depth=whole(1),
        numberOfChildren=whole(1),
        dist_children=number(0),
        sigma_sibling=number(0),
        numberOfsiblings=whole(1),
        dtype=optional(Kind(_floating, "a floating-point type: jnp.float32, for example")),
    )
    def __init__(
        self,
        key: PRNGKeyArray,
        ball: StereographicModel,
        dim: int,
        depth: int,
        numberOfChildren: int = 2,
        dist_children: float = 1.0,
        sigma_sibling: float = 2.0,
        numberOfsiblings: int = 1,
        dtype: DTypeLike | None = None,
    ) -> None:
        dtype = dtype or jnp.result_type(float)
        level, paths = ball.origin(1, dim, dtype=dtype), jnp.full((1, depth + 1), -1).at[0, 0].set(0)
        levels, labels, first = [level], [paths], 1
        for below in range(1, depth + 1):
            key, draw = jax.random.split(key)
            level = _grown(ball, draw, level, jnp.asarray(dist_children, dtype), numberOfChildren)
            paths = jnp.repeat(paths, numberOfChildren, 0).at[:, below - 1].set(first + jnp.arange(level.shape[0]))
            levels, labels, first = [*levels, level], [*labels, paths], first + level.shape[0]
        self.origin_data, paths = jnp.concatenate(levels), jnp.concatenate(labels)
        self.origin_labels = paths[:, :depth]
        self.labels = jnp.repeat(paths, numberOfsiblings, 0)
        around = jnp.repeat(self.origin_data, numberOfsiblings, 0)
        self.data = ball.random(key, *around.shape, mean=around, std=sigma_sibling**0.5, dtype=dtype)
        self.num_classes = int(jnp.max(self.origin_labels)) + 1

    def __len__(self) -> int:
        return self.data.shape[0]

    def __getitem__(self, i: Any) -> tuple[Array, Array, Array]:
        """The observations, their paths, and the nodes to which they belong."""
        return self.data[i], self.labels[i], jnp.max(self.labels[i], -1)


@partial(jax.jit, static_argnames="children")
def _grown(
    ball: StereographicModel, key: PRNGKeyArray, parents: Float[Array, "n dim"], distance: Float[Array, ""], children: int
) -> Float[Array, "m dim"]:
    """The children of all parents; those of one parent are adjacent."""
    directions = _directions(key, parents, children)
    return ball.geodesic_unit(distance, parents[:, None], directions).reshape(-1, parents.shape[-1])


def _directions(key: PRNGKeyArray, parents: Float[Array, "n dim"], children: int) -> Float[Array, "n children dim"]:
    dim = parents.shape[-1]
    opposite = dim == 2 and children == 2
    drawn = jax.random.normal(key, (parents.shape[0], 1 if opposite else children, dim), parents.dtype)
    norm = jnp.linalg.norm(parents, axis=-1, keepdims=True)
    unit = (parents / jnp.where(norm > 0, norm, 1))[:, None]
    drawn = drawn - jnp.sum(drawn * unit, -1, keepdims=True) * unit
    return jnp.concatenate([drawn, -drawn], 1) if opposite else drawn
