"""A graph cut into parts, one for each device: which nodes and edges each of them has, and what it gets from the others. On the host."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, Shaped

from port_jax.checks import on_host
from port_jax.graphs.edges import LARGEST, GraphError, checked_count

__all__ = ["METIS", "Partition", "place", "require_parts"]

METIS = "metis"
"""The order of nodes that METIS finds."""
Values = Shaped[np.ndarray, "rows *row"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """A graph cut into P parts. Each has its own nodes, the edges into them, and a list of what it sends to the others.

    All parts have equally many rows of nodes, n, and of edges, m, so that one program runs on all of them. Rows without a node are at the
    beginning of a part; rows without an edge are loops on the first one, of weight 0. The edges into one node keep the order of the user.
    The last node has the last row, since the classifier of GIL reads it. Arrays with a row for each node come by `split` onto the devices
    and by `join` back; `Graph.from_partition` makes the graph.
    """

    parts: int
    """P."""
    size: int
    """n: the rows of nodes of a part."""
    places: Int[np.ndarray, " N"]
    """The row of each node among all P n rows: links and nodes of a batch are named by `parts.places[nodes]`."""
    senders: Int[np.ndarray, "P m"]
    """Where each edge comes from: the own row, counted from the part's first one, or from n on the row of the halo."""
    receivers: Int[np.ndarray, "P m"]
    """Where each edge goes to, an own row, ascending."""
    edges: Int[np.ndarray, "P m"]
    """The position of each edge in the arrays that the user passed; -1 for none."""
    send: Int[np.ndarray, "P S"]
    """The own rows that each part sends, round after round."""
    rounds: tuple[tuple[int, int], ...]
    """The distance of each round, and the number of rows that every part sends in it; S altogether."""
    wanted: int
    """The rows that edges come from and other parts have, of all parts together. Of the P S rows that are sent, the others are padding."""
    weights: Float[np.ndarray, "P m"] | None
    edge_features: Float[np.ndarray, "P m ..."] | None

    def __repr__(self) -> str:
        edges = f"{int((self.edges >= 0).sum())} edges"
        return f"Partition({len(self.places)} nodes and {edges} in {self.parts} parts, which get {self.wanted} rows from each other)"

    @property
    def num_rows(self) -> int:
        """P n, the nodes of the graph that the parts make up, padding included."""
        return self.parts * self.size

    def rows(self, values: Any, padding: Any = 0) -> Values:
        """Values of nodes [N, ...] in the order of the parts [P n, ...], on the host. `padding` is what rows without a node get: a number,
        or one row, such as a point where 0 is none."""
        values = on_host("values", values)
        if values.shape[:1] != self.places.shape:
            raise GraphError(f"values has shape {values.shape}: pass a row for each of {len(self.places)} nodes")
        try:
            out = np.broadcast_to(np.asarray(padding, values.dtype), (self.num_rows, *values.shape[1:])).copy()
        except (TypeError, ValueError) as error:
            raise GraphError(f"padding does not fit rows of type {values.dtype} and shape {values.shape[1:]} ({error})") from None
        out[self.places] = values
        return out

    def edge_rows(self, values: Any) -> Values:
        """Values of edges [E, ...], in the user's order, in the order of the parts [P m, ...], on the host; 0 for rows without an edge."""
        values, edges = on_host("values", values), self.edges.reshape(-1)
        count = int(edges.max(initial=-1)) + 1
        if values.shape[:1] != (count,):
            raise GraphError(f"values has shape {values.shape}: pass a row for each of {count} edges")
        return _in_rows(values, edges)

    def split(self, values: Any, sharding: NamedSharding, padding: Any = 0) -> Shaped[Array, "P*n *row"]:
        """Values of nodes on the devices that have their parts (`sharding` is that of `Graph.from_partition`); see `rows`.

        In several processes each passes the values of all nodes, and keeps those of its devices.
        """
        require_parts(self.parts, sharding)
        return place(self.rows(values, padding), sharding)

    def split_edges(self, values: Any, sharding: NamedSharding) -> Shaped[Array, "P*m *row"]:
        """Values of edges, in the user's order, on the devices that have their parts."""
        require_parts(self.parts, sharding)
        return place(self.edge_rows(values), sharding)

    def join(self, rows: Any) -> Values:
        """What was computed for the rows of the parts [P n, ...] as values of nodes [N, ...], in their own order, on the host.

        In several processes all of them call it, and get the values of all nodes.
        """
        if isinstance(rows, jax.Array) and not rows.is_fully_addressable:
            from jax.experimental import multihost_utils

            rows = multihost_utils.process_allgather(rows, tiled=True)
        rows = on_host("rows", rows)
        if rows.shape[:1] != (self.num_rows,):
            raise GraphError(f"rows has shape {rows.shape}: pass the {self.num_rows} rows of {self.parts} parts of {self.size}")
        return rows[self.places]

    @staticmethod
    def of(
        senders: Int[np.ndarray, " E"],
        receivers: Int[np.ndarray, " E"],
        weights: Float[np.ndarray, " E"] | None,
        edge_features: Float[np.ndarray, "E ..."] | None,
        num_nodes: int,
        parts: int,
        order: Any = None,
    ) -> Partition:
        """The parts of a graph whose edges have been checked. Takes memory of the order of the edges.

        Raises `GraphError` for more parts than nodes, and for an order that does not name each node once.
        """
        if not 1 <= checked_count(parts, "parts") <= max(num_nodes, 1):
            raise GraphError(f"parts is {parts}, and the graph has {num_nodes} nodes: pass a number from 1 to {max(num_nodes, 1)}")
        nodes, counts = _last_node_last(*_ordered(order, senders, receivers, num_nodes, parts))
        owner, local, position = (np.empty(num_nodes, np.int64) for _ in range(3))
        position[nodes] = np.arange(num_nodes)
        owner[nodes] = np.repeat(np.arange(parts), counts)
        by_receiver = np.argsort(position[receivers], kind="stable")
        per_part = np.bincount(owner[receivers], minlength=parts)
        m = int(per_part.max(initial=0))
        # A part that has room for more edges needs a row of its own for the loops that fill it.
        n = int((counts + (per_part < m)).max(initial=1))
        if parts * max(n, m) > LARGEST:
            found = f"{parts} parts of {n} nodes and {m} edges"
            raise GraphError(f"{found}: at most {LARGEST} rows are supported, since indices are int32; sample mini-batches instead")
        local[nodes] = np.arange(num_nodes) + np.repeat(n - np.cumsum(counts), counts)
        chunks = np.split(by_receiver, np.cumsum(per_part)[:-1])
        halo = _Halos.of([(owner[senders[e]], local[senders[e]]) for e in chunks], n)
        filled = {name: np.full((parts, m), value, np.int32) for name, value in (("senders", 0), ("receivers", 0), ("edges", -1))}
        for p, edges in enumerate(chunks):
            first = m - len(edges)
            filled["senders"][p, first:] = halo.numbers[p]
            filled["receivers"][p, first:] = local[receivers[edges]]
            filled["edges"][p, first:] = edges
        shaped = lambda a: None if a is None else _in_rows(a, filled["edges"].reshape(-1)).reshape(parts, m, *a.shape[1:])  # noqa: E731
        return Partition(
            parts, n, (owner * n + local).astype(np.int32), **filled, send=halo.send, rounds=halo.rounds, wanted=halo.wanted,
            weights=shaped(weights), edge_features=shaped(edge_features),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Halos:
    """The halos of all parts."""

    numbers: list[np.ndarray]
    """For each part the senders of its edges: own rows, and from n on those of the halo."""
    send: np.ndarray
    rounds: tuple[tuple[int, int], ...]
    wanted: int

    @staticmethod
    def of(senders: list[tuple[np.ndarray, np.ndarray]], n: int) -> _Halos:
        """From the owner and the owner's row of the sender of each edge, for each part."""
        parts = len(senders)
        wanted, found = [], []
        for p, (owners, rows) in enumerate(senders):
            outside = owners != p
            once, which = np.unique(owners[outside] * n + rows[outside], return_inverse=True)
            wanted.append(once)
            found.append((outside, which.reshape(-1)))
        counts = np.zeros((parts, parts), np.int64)  # [p, d]: rows that p gets from the part d before it
        for p, once in enumerate(wanted):
            np.add.at(counts[p], (p - once // n) % parts, 1)
        widest = counts.max(0)
        first = np.cumsum(widest) - widest
        send, numbers = np.zeros((parts, int(widest.sum())), np.int32), []
        for p, (once, (outside, which), (_, rows)) in enumerate(zip(wanted, found, senders, strict=True)):
            owners = once // n
            slots = first[(p - owners) % parts] + np.arange(len(once)) - np.searchsorted(once, owners * n)
            send[owners, slots] = once % n
            own = rows.astype(np.int32)
            own[outside] = n + slots[which]
            numbers.append(own)
        rounds = tuple((d, int(width)) for d, width in enumerate(widest) if width)
        return _Halos(numbers, send, rounds, sum(map(len, wanted)))


def place(values: Shaped[np.ndarray, "rows *row"], sharding: NamedSharding) -> Shaped[Array, "rows *row"]:
    """An array of the host with its rows on the devices; of several processes, each has its own."""
    values = values.astype(jax.dtypes.canonicalize_dtype(values.dtype), copy=False)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def require_parts(parts: int, sharding: Any) -> str:
    """The axis along which a sharding splits rows. Raises `GraphError` if it is none, or splits them into another number of parts."""
    spec = tuple(sharding.spec) if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh) else ()
    if len(spec) != 1 or not isinstance(spec[0], str):
        remedy = "pass one that splits rows along one axis of a mesh, as Plan(mesh).split or NamedSharding(mesh, PartitionSpec('x'))"
        raise GraphError(f"sharding is {sharding!r:.100}: {remedy}")
    count = sharding.mesh.shape[spec[0]]
    if count != parts:
        remedy = f"cut the graph by graph.partition({count}), or make a mesh of {parts} devices"
        raise GraphError(f"the graph is in {parts} parts, and the mesh has {count} devices along {spec[0]!r}: {remedy}")
    return spec[0]


def _in_rows(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The values at the edges; 0 in place of edge -1."""
    out = np.zeros((len(edges), *values.shape[1:]), values.dtype)
    out[edges >= 0] = values[edges[edges >= 0]]
    return out


def _ordered(order: Any, senders: np.ndarray, receivers: np.ndarray, num_nodes: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes part after part, and how many each part has."""
    even = np.full(parts, num_nodes // parts) + (np.arange(parts) < num_nodes % parts)
    if order is None:
        return np.arange(num_nodes), even
    if isinstance(order, str):
        if order != METIS:
            raise GraphError(f"order is {order!r}: pass {METIS!r}, the nodes in an order of your own [N], or None for 0, 1, 2 and so on")
        member = _metis(senders, receivers, num_nodes, parts)
        return np.argsort(member, kind="stable"), np.bincount(member, minlength=parts)
    nodes = on_host("order", order)
    if nodes.shape != (num_nodes,) or nodes.dtype.kind not in "iu":
        found = f"order is an array of type {nodes.dtype} and shape {nodes.shape}"
        raise GraphError(f"{found}: pass each of the {num_nodes} nodes once, as integers")
    outside = np.flatnonzero((nodes < 0) | (nodes >= num_nodes))
    if outside.size:
        at = int(outside[0])
        raise GraphError(f"order[{at}] is {nodes[at]}, outside 0 .. {num_nodes - 1}: pass each of the {num_nodes} nodes once")
    times = np.bincount(nodes, minlength=num_nodes)
    if times.max(initial=1) > 1:
        node = int(np.argmax(times > 1))
        first, second = np.flatnonzero(nodes == node)[:2]
        missing = int(np.argmin(times))
        raise GraphError(f"order[{second}] is {node}, which is also order[{first}], and {missing} is missing: pass each node once")
    return nodes, even


def _last_node_last(nodes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same parts, in an order in which the last node of the graph is the last one."""
    if not len(nodes):
        return nodes, counts
    last = len(nodes) - 1
    cut = np.split(nodes, np.cumsum(counts)[:-1])
    part = int(np.searchsorted(np.cumsum(counts), np.flatnonzero(nodes == last)[0], side="right"))
    its = cut.pop(part)
    cut.append(np.concatenate([its[its != last], [last]]))
    return np.concatenate(cut), np.array(list(map(len, cut)))


def _metis(senders: np.ndarray, receivers: np.ndarray, num_nodes: int, parts: int) -> np.ndarray:
    """The part of each node by METIS, which cuts few edges. Their directions, repeats, loops and weights are not looked at."""
    try:
        pymetis = importlib.import_module("pymetis")
    except ImportError:
        remedy = "pip install pymetis, or pass an order of your own: nodes of one part after each other"
        raise GraphError(f"order is {METIS!r}, and the package pymetis is not installed: {remedy}") from None
    s, r = (ends[senders != receivers].astype(np.int64) for ends in (senders, receivers))
    pairs = np.unique(np.concatenate([s * num_nodes + r, r * num_nodes + s]))
    begins = np.searchsorted(pairs, np.arange(num_nodes + 1, dtype=np.int64) * num_nodes)
    _, member = pymetis.part_graph(parts, xadj=begins.tolist(), adjncy=(pairs % num_nodes).tolist())
    return np.asarray(member, np.int64)
