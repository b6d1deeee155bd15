"""`Graph`: edges sorted by receiver and indexed in both directions, built once on the host."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from port_jax.arguments import TEXT, TRUTH, Kind, number, one_of, optional, takes
from port_jax.checks import as_array, on_host
from port_jax.graphs.edges import GraphError, checked_count, checked_edges, named_pairs
from port_jax.graphs.halo import Halo
from port_jax.graphs.partition import Partition, place, require_parts
from port_jax.graphs.rows import Rows, indices

__all__ = ["Graph"]


def _refused(error: type[Exception], found: str, wanted: str) -> Exception:
    """Every error about a graph is a GraphError."""
    return GraphError(f"{found}: pass {wanted}")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["incoming", "outgoing", "order", "weights", "edge_features", "halo"],
    meta_fields=["num_nodes"],
    drop_fields=["names"],
)
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A directed graph whose receivers aggregate from senders.

    Edges are sorted by receiver; the edges of one receiver keep the user's order. `order[e]` is the position of edge e
    in the arrays that the user passed; `to_graph_order` and `to_user_order` move values between the two. A graph is
    a pytree: it can be an argument of `jax.jit` (the number of nodes is static) or a closed-over constant. `names` [N] says what a person
    calls the nodes, if the graph was made by `from_edge_list`. Names stay on the host: graphs that `jit` or `tree.map` return have none.

    A graph in parts (`partition`, `from_partition`) lies on several devices: its nodes are the rows of all parts, `halo` says what devices
    send each other, `senders` and `receivers` count within a part, and `order` is None.
    """

    incoming: Rows
    outgoing: Rows
    order: Int[Array, " E"] | None
    weights: Float[Array, " E"] | None
    edge_features: Float[Array, "E ..."] | None
    num_nodes: int
    names: np.ndarray | None = None
    halo: Halo | None = None

    def __repr__(self) -> str:
        parts = {"weights": self.weights, "edge_features": self.edge_features, "names": self.names}
        has = "".join(f", {name} {list(np.shape(value))}" for name, value in parts.items() if value is not None)
        edges = np.shape(self.senders)[0] if np.ndim(self.senders) else "?"
        parts = "" if self.halo is None else f" in {self.halo.mesh.shape[self.halo.axis]} parts"
        return f"Graph({self.num_nodes} nodes, {edges} edges{parts}{has})"

    @property
    def senders(self) -> Int[Array, " E"]:
        """The node that each edge comes from."""
        return self.incoming.columns

    @property
    def receivers(self) -> Int[Array, " E"]:
        """The node that each edge goes to, ascending."""
        return self.incoming.segments

    @property
    def num_edges(self) -> int:
        """E, self loops and padding included."""
        return self.senders.shape[0]

    @property
    def loop_mask(self) -> Bool[Array, " E"]:
        """True for edges from a node to itself."""
        return self.senders == self.receivers

    # Constructors.

    @staticmethod
    @takes(_refused, layout=TRUTH)
    def from_edges(
        senders: Any, receivers: Any, *, num_nodes: int, weights: Any = None, edge_features: Any = None, layout: bool = True
    ) -> Graph:
        """Edge e runs from senders[e] to receivers[e]; weights [E] and edge_features [E, ...] are in the same order.

        `layout=False` leaves out the arrangement that makes sums fast, for a graph that is used once, such as a mini-batch.
        Raises `GraphError` for indices that are not integers in [0, num_nodes), for lengths that differ, and for
        weights or features that are not finite. Repeated edges are kept.
        """
        n = checked_count(num_nodes)
        return Graph._build(*checked_edges(senders, receivers, n, weights, edge_features), n, blocked=layout)

    @staticmethod
    def _build(
        s: np.ndarray,
        r: np.ndarray,
        w: np.ndarray | None,
        f: np.ndarray | None,
        n: int,
        *,
        blocked: bool = True,
    ) -> Graph:
        """The graph of checked host arrays; `blocked=False` leaves out the layout that depends on the degrees."""
        order = np.argsort(r, kind="stable").astype(np.int32)
        s, r = s[order], r[order]
        out = np.argsort(s, kind="stable").astype(np.int32)
        return Graph(
            incoming=Rows.build(r, s, n, None, blocked=blocked),
            outgoing=Rows.build(s[out], r[out], n, out, blocked=blocked),
            order=indices(order),
            weights=None if w is None else jax.device_put(w[order]),
            edge_features=None if f is None else jax.device_put(f[order]),
            num_nodes=n,
        )

    @staticmethod
    def from_edge_index(edge_index: Any, *, num_nodes: int, weights: Any = None, edge_features: Any = None) -> Graph:
        """edge_index [2, E] as in torch_geometric: row 0 has the senders, row 1 the receivers."""
        index = on_host("edge_index", edge_index)
        if index.ndim != 2 or index.shape[0] != 2:
            remedy = "transpose it" if index.ndim == 2 and index.shape[1] == 2 else "row 0 sends, row 1 receives"
            raise GraphError(f"edge_index has shape {index.shape}: pass shape [2, E] ({remedy})")
        return Graph.from_edges(index[0], index[1], num_nodes=num_nodes, weights=weights, edge_features=edge_features)

    @staticmethod
    def from_edge_list(pairs: Any, *, weights: Any = None, edge_features: Any = None) -> Graph:
        """pairs [E, 2] of names (sender, receiver): integers of any size, with gaps or negative, or strings.

        The nodes are the names that occur, in ascending order; `names` [N] of the result lists them. Features of nodes are in this order,
        too. Raises `GraphError` for names of several types, and as `from_edges`.
        """
        names, index = named_pairs(pairs)
        graph = Graph.from_edges(index[:, 0], index[:, 1], num_nodes=len(names), weights=weights, edge_features=edge_features)
        return dataclasses.replace(graph, names=names)

    @staticmethod
    def from_scipy(adjacency: Any) -> Graph:
        """A square scipy.sparse matrix A: row i receives from column j with weight A[i, j], as in the product A @ x.

        Stored entries are edges, zeros among them included; repeated entries of a COO matrix stay separate edges.
        """
        if not hasattr(adjacency, "tocoo"):
            raise GraphError(f"adjacency is a {type(adjacency).__name__}: pass a scipy.sparse matrix or array")
        coo = adjacency.tocoo()
        if coo.shape[0] != coo.shape[1]:
            raise GraphError(f"adjacency has shape {coo.shape}: rows and columns number the same nodes, so the matrix must be square")
        return Graph.from_edges(coo.col, coo.row, num_nodes=coo.shape[0], weights=coo.data)

    @staticmethod
    @takes(_refused, graph=Kind(lambda graph: callable(getattr(graph, "is_directed", None)), "a graph of networkx"), weight=optional(TEXT))
    def from_networkx(graph: Any, *, weight: str | None = None) -> Graph:
        """A networkx graph: u -> v sends from u to v, and an undirected edge goes both ways (a self loop once).

        Nodes are numbered in the order of `graph.nodes`. `weight` names the edge attribute that holds the weights.
        """
        number = {node: i for i, node in enumerate(graph.nodes)}
        senders, receivers, weights = [], [], []
        for u, v, data in graph.edges(data=True):
            if weight is not None and weight not in data:
                raise GraphError(f"edge ({u!r}, {v!r}) has no attribute {weight!r}: set it on all edges or pass weight=None")
            ends = [(u, v)] if graph.is_directed() or u == v else [(u, v), (v, u)]
            for a, b in ends:
                senders.append(number[a])
                receivers.append(number[b])
                weights.append(1.0 if weight is None else data[weight])
        return Graph.from_edges(
            np.asarray(senders, np.int64),
            np.asarray(receivers, np.int64),
            num_nodes=len(number),
            weights=None if weight is None else np.asarray(weights),
        )

    # A graph on several devices.

    def partition(self, parts: int, order: Any = None) -> Partition:
        """The graph cut into as many parts as there are devices; `Graph.from_partition` puts them there.

        Each part has its own nodes and the edges into them. The fewer edges run between parts, the less devices send each other.

        Arguments:
            parts: their number.
            order: the nodes [N], each once: the first part has the first N / parts of them, and so on. None is the order that they have.
                "metis" lets METIS find parts between which few edges run (with the package pymetis); their sizes may differ a little.

        Errors: GraphError for more parts than nodes, for an order that is none, and for a graph that is in parts already. Its message says
        how to install pymetis where that is missing.
        """
        return Partition.of(*self.host_arrays(), self.num_nodes, parts, order)

    @staticmethod
    def from_partition(parts: Partition, sharding: jax.sharding.NamedSharding) -> Graph:
        """The graph of the parts, each on its device. `sharding` splits rows along one axis of a mesh, as `plan.split` of a `Plan` does.

            parts = graph.partition(plan.count)
            there = Graph.from_partition(parts, plan.split)
            h = parts.join(jax.jit(model.apply)(variables, parts.split(features, plan.split), there))

        Models and operations on graphs take it as any other, under jit, with arrays of nodes as `Partition.split` gives them. Operations
        that read values of senders exchange rows between devices, and nothing else does. There is a row for each node and for padding,
        `num_nodes` altogether: leave the padding out of losses, for example by a mask that `split` has filled up with False. The graph has
        no layout (`layout=False` of `from_edges`), as its shapes would depend on the part.

        Errors: GraphError for a sharding that does not split rows along one axis, or into another number of parts.
        """
        axis, mesh = require_parts(parts.parts, sharding), sharding.mesh
        assert isinstance(mesh, Mesh)
        put = lambda a: place(a.reshape(-1, *a.shape[2:]), sharding)  # noqa: E731
        out = np.argsort(parts.senders, axis=1, kind="stable").astype(np.int32)
        ends, starts = (np.take_along_axis(a, out, 1) for a in (parts.receivers, parts.senders))
        halo = Halo(put(parts.send), parts.rounds, mesh, axis)
        return Graph(
            incoming=Rows(put(parts.receivers), put(parts.senders), None, None, None, parts.size),
            outgoing=Rows(put(starts), put(ends), put(out), None, None, parts.size + halo.rows),
            order=None,
            weights=None if parts.weights is None else put(parts.weights),
            edge_features=None if parts.edge_features is None else put(parts.edge_features),
            num_nodes=parts.num_rows,
            halo=halo,
        )

    # Values on edges.

    def to_graph_order(self, values: Float[Array, "E ..."]) -> Float[Array, "E ..."]:
        """Edge values in the user's order -> the graph's order."""
        return self._edge_values(values)[self._whole_order()]

    def to_user_order(self, values: Float[Array, "E ..."]) -> Float[Array, "E ..."]:
        """Edge values in the graph's order -> the user's order."""
        values = self._edge_values(values)
        return jnp.zeros_like(values).at[self._whole_order()].set(values, unique_indices=True, mode="promise_in_bounds")

    def _edge_values(self, values: Any) -> Array:
        array = as_array("values", values)
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) or array.shape[:1] != (self.num_edges,):
            found = f"values has type {array.dtype} and shape {array.shape}"
            raise GraphError(f"{found}: pass numbers with a row for each of {self.num_edges} edges")
        return array

    def _whole_order(self) -> Int[Array, " E"]:
        if self.order is None:
            raise GraphError(
                "the graph is in parts on several devices: change the whole graph before it is cut, and pass edge values by `split_edges` "
                "of its Partition"
            )
        return self.order

    def with_weights(self, weights: Float[Array, " E"] | None) -> Graph:
        """The same edges with other weights, in the graph's order; not checked, so it works under `jit`."""
        return dataclasses.replace(self, weights=weights)

    # Graphs from graphs, on the host: not under `jit`.

    @takes(_refused, weight=number())
    def with_self_loops(self, weight: float = 1.0) -> Graph:
        """The graph with one self loop per node in place of the existing ones, after all other edges in the user's order.

        The loops get `weight` where the graph has weights, and zero edge features where it has features.
        """
        kept = self.without_self_loops()
        s, r, w, f = kept.host_arrays()
        loops = np.arange(self.num_nodes, dtype=np.int32)
        if w is not None:
            w = np.concatenate([w, np.full(self.num_nodes, weight, w.dtype)])
        if f is not None:
            f = np.concatenate([f, np.zeros((self.num_nodes, *f.shape[1:]), f.dtype)])
        return self._named(np.concatenate([s, loops]), np.concatenate([r, loops]), w, f)

    def without_self_loops(self) -> Graph:
        """The edges between different nodes."""
        s, r, w, f = self.host_arrays()
        keep = s != r
        return self._named(s[keep], r[keep], None if w is None else w[keep], None if f is None else f[keep])

    def undirected(self) -> Graph:
        """Both directions of each edge, each pair once: of repeated edges the first one in the user's order is kept.

        An edge that is already present in both directions keeps the weight and features of each direction.
        """
        s, r, w, f = self.host_arrays()
        senders, receivers = np.concatenate([s, r]), np.concatenate([r, s])
        keys = senders.astype(np.int64) * max(self.num_nodes, 1) + receivers
        first = np.sort(np.unique(keys, return_index=True)[1])
        return self._named(
            senders[first],
            receivers[first],
            None if w is None else np.concatenate([w, w])[first],
            None if f is None else np.concatenate([f, f])[first],
        )

    @takes(_refused, kind=one_of("row", "symmetric"), self_loops=TRUTH)
    def normalized(self, kind: Literal["row", "symmetric"] = "row", *, self_loops: bool = True) -> Graph:
        """The normalised adjacency as weights: D^-1 (A + I) for "row", D^-1/2 (A + I) D^-1/2 for "symmetric".

        A has the graph's weights, or 1 for each edge, and D contains the row sums of A + I, one for each receiver. I is
        added to existing self loops, as HGCN does, and left out if `self_loops=False`. A row that sums to 0 gets
        weights 0.
        """
        s, r, w, _ = self.host_arrays()
        w = np.ones(len(s), np.float64) if w is None else w.astype(np.float64)
        if self_loops:
            on_loop = np.flatnonzero(s == r)
            has_loop = np.zeros(self.num_nodes, bool)
            first = on_loop[np.unique(s[on_loop], return_index=True)[1]]
            w[first] += 1.0
            has_loop[s[first]] = True
            missing = np.flatnonzero(~has_loop).astype(np.int32)
            s, r = np.concatenate([s, missing]), np.concatenate([r, missing])
            w = np.concatenate([w, np.ones(len(missing))])
        degree = np.bincount(r, weights=w, minlength=self.num_nodes)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = w / (degree[r] if kind == "row" else np.sqrt(degree[r] * degree[s]))
        scaled = np.where(np.isfinite(scaled), scaled, 0.0)
        dtype = np.float32 if self.weights is None else self.weights.dtype
        return self._named(s, r, scaled.astype(dtype))

    def padded(self, *, num_nodes: int, num_edges: int) -> Graph:
        """The graph with fixed shapes: nodes and edges appended, so that graphs of many sizes share one compilation.

        Added edges are self loops of weight 0 on the last added node. They come last and reach no real node, so no
        mask is needed; leave the rows of added nodes out of losses. They have no names. Edges can be added only together with a node. Sums
        then use a sorted scatter, which is slower than the layout made for one graph.
        """
        nodes = checked_count(num_nodes) - self.num_nodes
        edges = checked_count(num_edges, "num_edges") - self.num_edges
        if nodes < 0 or edges < 0 or (edges > 0 and nodes == 0):
            raise GraphError(
                f"padded to num_nodes={num_nodes}, num_edges={num_edges}, but the graph has {self.num_nodes} and "
                f"{self.num_edges}: neither may shrink, and added edges need an added node to belong to"
            )
        s, r, w, f = self.host_arrays()
        tail = np.full(edges, num_nodes - 1, np.int32)
        if w is not None:
            w = np.concatenate([w, np.zeros(edges, w.dtype)])
        if f is not None:
            f = np.concatenate([f, np.zeros((edges, *f.shape[1:]), f.dtype)])
        s, r = np.concatenate([s, tail]), np.concatenate([r, tail])
        return dataclasses.replace(Graph._build(s, r, w, f, self.num_nodes + nodes, blocked=False), names=self.names)

    def _named(self, s: np.ndarray, r: np.ndarray, w: np.ndarray | None = None, f: np.ndarray | None = None) -> Graph:
        """A graph of the same nodes, with their names."""
        made = Graph.from_edges(s, r, num_nodes=self.num_nodes, weights=w, edge_features=f)
        return dataclasses.replace(made, names=self.names)

    def host_arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Senders, receivers, weights and features in the user's order, as numpy arrays."""
        order = self._whole_order()
        if isinstance(order, Tracer):
            raise GraphError("graphs are built on the host: call this outside of jit and pass the result in")
        back = np.argsort(np.asarray(order))
        w, f = self.weights, self.edge_features
        return (
            np.asarray(self.senders)[back],
            np.asarray(self.receivers)[back],
            None if w is None else np.asarray(w)[back],
            None if f is None else np.asarray(f)[back],
        )
