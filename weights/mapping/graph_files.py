"""A graph that a person gives: an .npz file, or a torch file with a sparse adjacency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from weights.errors import Unreadable
from weights.files.graph_arrays import arrays_of, file_of

if TYPE_CHECKING:
    from port_jax.data import GraphData


def graph_data(graph: str | Path, task: Literal["nc", "lp"]) -> GraphData:
    """What `port_jax.data.load_graph` makes of it. Raises Unreadable for a graph that cannot be used, Usage where several may be meant."""
    from port_jax.data import DataError, load_graph

    arrays = arrays_of(graph)
    try:
        return load_graph(file_of(graph), task=task, arrays=arrays)
    except DataError as error:
        raise Unreadable(str(error)) from None


__all__ = ["graph_data"]
