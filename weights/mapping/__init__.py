"""Between torch's keys and flax's variables, both ways: rules, architectures, settings, curvatures, manifolds."""

__all__ = [
    "architecture",
    "conversion",
    "convert",
    "curvature_settings",
    "entries",
    "leaves",
    "manifold_trees",
    "node_embeddings",
    "parameter_tree",
    "points",
    "probes",
    "recognition",
    "report",
    "rules",
    "settings",
]
