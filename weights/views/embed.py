"""Node embeddings of a checkpoint, with names: the trained table, or the output of the encoder on a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from port_jax.arguments import MAPPING, PATH, TEXT, either, instance, one_of, optional
from port_jax.data import GraphData
from port_jax.graphs import Graph
from port_jax.manifolds import Euclidean
from port_jax.manifolds.base import Manifold
from port_jax.optim.trees import match_manifolds
from weights.arguments import takes
from weights.checkpoint import Checkpoint
from weights.errors import Unmatched, Unreadable, Usage
from weights.files import npz
from weights.files.inputs import size_of
from weights.mapping.entries import flatten
from weights.mapping.graph_files import graph_data
from weights.mapping.manifold_trees import CURVED
from weights.mapping.node_embeddings import ENCODED, NodeEmbeddings
from weights.mapping.port import TREE
from weights.types import Document


@dataclass(frozen=True)
class Embeddings:
    """Points [N, d], one row for each name. `manifold` is where they lie; None for coordinates of the tangent space at the origin.

    names_from: where the names were found, in words. origin: the path of the parameter, or "encoder". labels ([N]), label_names and
    edges ([2, E]): the graph's, if one is given. note: a remark for the reader, often empty.
    """

    points: np.ndarray
    names: tuple[str, ...]
    manifold: Manifold | None
    names_from: str
    origin: str
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    edges: np.ndarray | None = None
    note: str = ""


@takes(
    checkpoint=instance("a Checkpoint, as weights.load and weights.restore make it", Checkpoint),
    key=optional(TEXT),
    graph=optional(either(PATH, instance("a GraphData", GraphData))),
    names=optional(either(PATH, instance("names in a list", list, tuple, np.ndarray))),
    inputs=optional(either(PATH, MAPPING)),
    space=one_of("manifold", "tangent"),
)
def embeddings(checkpoint: Checkpoint, *, key: str | None = None, graph: str | Path | GraphData | None = None,
               names: str | Path | Sequence[str] | None = None, space: str = "manifold",
               inputs: str | Path | Mapping[str, np.ndarray] | None = None) -> Embeddings:  # fmt: skip
    """The embeddings of a checkpoint's nodes, on their manifold or (`space="tangent"`) as log_0 in d coordinates.

    key: a parameter, by torch's key or by its path in the variables; without it, the model's table of nodes, or the output of the
    encoder on `graph` (an .npz file that `port_jax.data.load_graph` reads, or a
    torch file with a sparse adjacency, FILE or FILE:PLACE). names: a file with one name per line, or the names;
    without them, the checkpoint's `objects`, the graph's names, or 0, 1, 2, ... inputs: arrays that the model encodes, by its names for
    them, or an .npz file of them: `images` and `tokens` of MERU, `tokens` of HELM.

    Raises Usage, which says what to give, and Unmatched if sizes differ.
    """
    nodes = _nodes(checkpoint)
    if key is None and (nodes.arrays or inputs is not None):
        return _of_arrays(checkpoint, inputs, names, space)
    data = _graph(checkpoint, graph)
    params = flatten(checkpoint.variables["params"])
    if key is None and checkpoint.arch == TREE:
        key = _only_table(checkpoint)
    note = ""
    if key is not None or (nodes.table in params and (data is None or not nodes.start) and not checkpoint.settings.get("pretrained")):
        path = nodes.table if key is None else _path(checkpoint, key)
        points, manifold, origin = np.asarray(params[path]), _manifold_of(checkpoint, path), f"params/{path}"
        if nodes.rows is not None and key is None:
            points = nodes.rows(points)
        if nodes.start and key is None:
            note = "the table that the layers start from; give a graph for the output of the layers"
    else:
        points, manifold = _encoded(checkpoint, data)
        origin = "encoder"
    if points.ndim != 2:
        raise Usage(f"{origin} has shape {points.shape}", "Give the --key of a parameter with a row for each node")
    if nodes.tangents is not None and origin == f"params/{nodes.table}":  # kept as tangents at the origins of the relations' balls
        if space == "manifold":
            if manifold is None:
                raise Usage("each relation has a ball of its own: c has several rows", "Give --space tangent")
            points = np.asarray(manifold.expmap0(jnp.asarray(points)))
    elif space == "tangent":
        points = _tangents(points, manifold)
    manifold = manifold if space == "manifold" else None
    listed, source = _names(checkpoint, names, data, len(points))
    if data is not None and data.num_nodes != len(points):
        raise Unmatched(
            f"the graph has {data.num_nodes} nodes and {origin} {len(points)} rows", "Give the graph that the model was trained on"
        )
    return Embeddings(
        points=points,
        names=listed,
        manifold=manifold,
        names_from=source,
        origin=origin,
        labels=data and data.labels,
        label_names=data and data.label_names,
        edges=data and data.edges,
        note=note,
    )


def _of_arrays(checkpoint: Checkpoint, inputs: str | Path | Mapping[str, np.ndarray] | None, names: str | Path | Sequence[str] | None,
               space: str) -> Embeddings:  # fmt: skip
    """The embeddings of arrays that a model encodes."""
    nodes, arch = _nodes(checkpoint), checkpoint.arch
    if not nodes.arrays:
        raise Usage(f"{arch} encodes no arrays", "Omit --inputs (inputs=); give --graph or --key where the embeddings are not in the file")
    arrays = {} if inputs is None else inputs if isinstance(inputs, Mapping) else _arrays(Path(inputs))
    if not set(nodes.arrays) & set(arrays):
        there = f"; the file has {', '.join(arrays)}" if arrays else ""
        raise Usage(
            f"{arch} computes embeddings from {' or '.join(nodes.arrays)}{there}",
            "Give --inputs data.npz (inputs=) with arrays of these names, or the --key of a parameter",
        )
    try:
        found = nodes.encoded(checkpoint.model, checkpoint.variables, arrays)
    except (ValueError, TypeError) as error:
        raise Unmatched(f"the arrays do not fit the model: {error}", "Give them as the model was trained on them") from None
    points, manifold = np.concatenate([np.asarray(each) for each in found.values()]), nodes.manifold(checkpoint.model, checkpoint.variables)
    numbered = [f"{name} {n}" for name, each in found.items() for n in range(len(each))]
    listed, source = _names(checkpoint, names, None, len(points)) if names is not None else (tuple(numbered), "the arrays")
    points = _tangents(points, manifold) if space == "tangent" else points
    return Embeddings(points, listed, manifold if space == "manifold" else None, source, "encoder")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file."""
    npz.check(path)
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile, EOFError) as error:
        raise Unreadable(f"not an .npz file of arrays ({error!r:.80})", "Save it with numpy.savez", path=path) from None


def _tangents(points: np.ndarray, manifold: Manifold | None) -> np.ndarray:
    """log_0 in d coordinates."""
    if manifold is None or not manifold.has("logmap0"):
        raise Usage(f"{type(manifold).__name__} has no origin, and so no tangent space there", "Give --space manifold")
    return np.asarray(manifold.to_tangent0(jnp.asarray(points)))


def described(found: Embeddings) -> Document:
    """A description of the embeddings, as JSON.

    curvature: the number by which the manifold is made, as in `--manifold emb=PoincareBall:0.7` and in what inspect prints: c of balls, k
    of Lorentz and Stereographic. sectional_curvature: -c of a ball, -1/k of a hyperboloid. None where there is not one number.
    """
    curved = found.manifold
    _, (_, argument) = CURVED.get(type(curved).__name__, ("", ("", "")))
    sectional = None if curved is None or curved.flat or not curved.has("curvature") else _first(curved.curvature)
    return {
        "nodes": len(found.points),
        "dimension": found.points.shape[1],
        "dtype": str(found.points.dtype),
        "space": "tangent at the origin" if curved is None else type(curved).__name__,
        "curvature": _first(getattr(curved, argument)) if argument else None,
        "sectional_curvature": sectional,
        "from": found.origin,
        "names": found.names_from,
        "note": found.note,
    }


def _first(number: object) -> float:
    return float(np.asarray(number).reshape(-1)[0])


def _graph(checkpoint: Checkpoint, graph: str | Path | GraphData | None) -> GraphData | None:
    if graph is None or isinstance(graph, GraphData):
        return graph
    settings = checkpoint.settings
    task = settings.get("task") or ("nc" if settings.get("num_classes") else "lp")
    return graph_data(graph, "nc" if task == "nc" else "lp")


def _nodes(checkpoint: Checkpoint) -> NodeEmbeddings:
    """What the architecture says of its nodes' embeddings; of a tree of parameters nothing is known."""
    return ENCODED if checkpoint.port is None else checkpoint.port.nodes


def _only_table(checkpoint: Checkpoint) -> str:
    found = [e.key for e in checkpoint.entries if e.role == "parameter" and len(e.shape) == 2]
    on = {key: _manifold_of(checkpoint, _path(checkpoint, key)) for key in found}
    curved = [key for key, manifold in on.items() if manifold is None or not manifold.flat]
    if len(curved) != 1:
        shown = ", ".join((curved or found)[:8])
        raise Usage(
            f"the file contains {len(curved) or 'no'} tables of points on a manifold", f"Give the --key of one parameter of {shown}"
        )
    return curved[0]


def _path(checkpoint: Checkpoint, key: str) -> str:
    """A parameter's path below params, by torch's key or by the path itself."""
    paths = {e.key: str(e.path) for e in checkpoint.entries if e.role == "parameter"}
    paths |= {e.key: paths[e.tied] for e in checkpoint.entries if e.role == "tied" and e.tied in paths}
    path = paths.get(key, key if key.startswith("params/") else f"params/{key}")
    if path not in paths.values():
        raise Usage(f"no parameter is called {key!r}", f"The parameters are {', '.join(list(paths)[:8])}")
    return path.removeprefix("params/")


def _manifold_of(checkpoint: Checkpoint, path: str) -> Manifold | None:
    """Where a parameter's rows lie; of a table of tangents the ball that they are mapped to, None if there are several."""
    params = checkpoint.variables["params"]
    nodes = _nodes(checkpoint)
    if nodes.tangents is not None and path == nodes.table:
        return nodes.tangents(params)
    if checkpoint.manifolds is None:
        return Euclidean()
    return dict(zip(flatten(_paths_as_leaves(params)).values(), match_manifolds(checkpoint.manifolds, params)))[path]


def _paths_as_leaves(params: Mapping, prefix: str = "") -> dict[str, str | dict]:
    """The same nesting, sorted as jax sorts it, with each leaf's path in its place."""
    return {
        name: _paths_as_leaves(params[name], f"{prefix}{name}/") if isinstance(params[name], Mapping) else f"{prefix}{name}"
        for name in sorted(params)
    }


def _encoded(checkpoint: Checkpoint, data: GraphData | None) -> tuple[np.ndarray, Manifold]:
    model, variables, arch = checkpoint.model, checkpoint.variables, checkpoint.arch
    if model is None or not hasattr(model, "encode"):
        raise Usage(f"{arch} has no encoder", "Give the --key of a parameter")
    if data is None:
        raise Usage(f"{arch} computes embeddings from features and a graph", "Give --graph data.npz, or the --key of a parameter")
    for name in ("node_features", "edge_features"):
        if checkpoint.settings.get(name) and getattr(data, name) is None:
            raise Usage(f"the model takes {name.replace('_', ' ')}, and the graph has none", f"Add an array {name} to the .npz")
    if not data.features.shape[1]:
        raise Usage(f"{arch} computes embeddings from features, and the graph has none", "Add features [N, F] beside the adjacency")
    dtype = np.result_type(*(np.asarray(leaf).dtype for leaf in flatten(variables["params"]).values()))
    x = jnp.asarray(data.features, dtype)
    graph = _prepared(checkpoint, data, dtype)
    try:
        inputs = _nodes(checkpoint).inputs(checkpoint.settings, x, graph)
        if checkpoint.settings.get("node_features"):
            inputs.append(jnp.asarray(data.node_features, dtype))
        found = jax.jit(partial(model.apply, method="encode"))(variables, *inputs)
    except ValueError as error:
        raise Unmatched(
            f"the graph does not fit the model: {error}",
            "Give the graph that the model was trained on, with features prepared in the same way",
        ) from None
    points = np.asarray(found[0] if isinstance(found, tuple) else found)
    return points, _nodes(checkpoint).manifold(model, variables)


def _prepared(checkpoint: Checkpoint, data: GraphData, dtype: np.dtype) -> Graph:
    """The graph as the model was trained on it: normalised with loops in this type, or plain edges, to which layers add their loops."""
    if checkpoint.settings.get("edge_features"):
        assert data.edge_features is not None
        ends, beside = np.concatenate([data.edges, data.edges[::-1]], 1), np.concatenate([data.edge_features] * 2)
        return Graph.from_edges(*ends, num_nodes=data.num_nodes, edge_features=beside)
    if not _nodes(checkpoint).normalized:
        return Graph.from_edge_index(data.edges, num_nodes=data.num_nodes).undirected()
    if data.graph.weights is not None:
        return data.graph
    ones = np.ones(data.edges.shape[1], dtype)
    plain = Graph.from_edge_index(data.edges, num_nodes=data.num_nodes, weights=ones).undirected()
    return plain if checkpoint.config.get("normalize_adj") in (0, False) else plain.normalized()


def _names(
    checkpoint: Checkpoint, given: str | Path | Sequence[str] | None, data: GraphData | None, count: int
) -> tuple[tuple[str, ...], str]:
    root = checkpoint.source.root
    objects = root.get("objects") if isinstance(root, dict) else None
    if isinstance(given, str | Path):
        try:
            size_of(given)
            found, source = Path(given).read_text(encoding="utf-8").splitlines(), str(given)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise Unreadable(f"cannot be read as names ({why})", "Give a text file with one name per line", path=given) from None
    elif given is not None:
        found, source = [str(name) for name in given], "the names given"
    elif isinstance(objects, list | tuple | np.ndarray) and len(objects) == count:
        found, source = [str(name) for name in objects], "the checkpoint's objects"
    elif data is not None and data.names is not None:
        found, source = list(data.names), "the graph's names"
    else:
        return tuple(map(str, range(count))), "numbers"
    if len(found) != count:
        raise Unmatched(f"{len(found)} names for {count} nodes ({source})", "Give one name per line, in the order of the nodes")
    return tuple(found), source


__all__ = ["Embeddings", "described", "embeddings"]
