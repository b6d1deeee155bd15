"""What the devices of a graph in parts send each other: the part of `python -m benchmarks.scale` on graphs.

The rows are counted as the graph is cut, on the host. That a compiled program sends them, and nothing else between neighbours, and what it
keeps in memory, is compared by `parity_tests.graphs.on_parts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.report import markdown
from port_jax.graphs import Graph

__all__ = ["DEVICES", "GRAPHS", "goals", "measured", "section"]

DEVICES = (2, 4, 8)
NODES, NEIGHBOURS = 1024, 8
LAYERS, HEADS, CHANNELS = 2, 4, 8
"""Of the HGAT whose bytes are told."""
Row = dict[str, Any]


def ring() -> Graph:
    """Each node receives from four nodes on either side."""
    steps = np.array([d for d in range(-NEIGHBOURS // 2, NEIGHBOURS // 2 + 1) if d])
    receivers = np.repeat(np.arange(NODES), NEIGHBOURS)
    return Graph.from_edges((receivers + np.tile(steps, NODES)) % NODES, receivers, num_nodes=NODES)


def drawn() -> Graph:
    """As many edges, whose ends are drawn."""
    return Graph.from_edges(*np.random.default_rng(0).integers(0, NODES, (2, NODES * NEIGHBOURS)), num_nodes=NODES)


GRAPHS = {"ring": ring, "random": drawn}


def measured(kind: str, devices: int) -> Row:
    """One line of the table."""
    parts = GRAPHS[kind]().partition(devices)
    rows = parts.send.shape[1]
    sent = 2 * LAYERS * rows * (HEADS * CHANNELS + HEADS) * 8
    return {"graph": kind, "devices": devices, "wanted": parts.wanted, "sent": devices * rows, "rounds": len(parts.rounds), "bytes": sent}


def goals(rows: list[Row]) -> dict[str, bool]:
    """Each goal in words, and whether the figures meet it. Edges between nodes that are drawn have none."""
    near = [row for row in rows if row["graph"] == "ring"]
    return {
        "a ring in parts: at most 1.5 times as many rows are sent as are wanted": all(row["sent"] <= 1.5 * row["wanted"] for row in near)
    }


def section(rows: list[Row]) -> list[str]:
    """The tables of docs/scale.md on graphs."""
    columns = ("devices", "rows wanted", "rows sent", "rounds", "bytes")
    parts = [
        f"**A graph in parts**: {NODES:,} nodes in their own order and {NODES * NEIGHBOURS:,} edges; bytes of a step of HGAT with {LAYERS} "
        f"layers of {HEADS} heads of {CHANNELS}, float64."
    ]
    titles = {"ring": "A ring: each node receives from four nodes on either side", "random": "Edges between nodes that are drawn"}
    for kind, title in titles.items():
        those = [row for row in rows if row["graph"] == kind]
        lines = [[f"{row[name]:,}" for name in ("devices", "wanted", "sent", "rounds", "bytes")] for row in those]
        parts += [f"{title}:", markdown(columns, lines)]
    return parts
