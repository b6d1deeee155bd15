"""Metrics of link prediction, node classification and embeddings, in numpy on the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike

__all__ = ["Reconstruction", "accuracy", "average_precision", "f1", "reconstruction", "reconstruction_rows", "roc_auc"]


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs that the scores order correctly; ties count half."""
    y, s = _binary(labels, scores)
    order = np.argsort(s, kind="stable")
    _, first, count = np.unique(s[order], return_index=True, return_counts=True)
    rank = np.empty(len(s))
    rank[order] = np.repeat(first + (count + 1) / 2, count)  # from 1; equal scores share their mean rank
    positive = int(y.sum())
    negative = len(y) - positive
    if positive == 0 or negative == 0:
        raise ValueError(f"labels contain {positive} positives and {negative} negatives: ROC AUC needs both")
    return float((rank[y].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """The sum over thresholds of (recall gained) x precision, without interpolation; equal scores are one threshold."""
    y, s = _binary(labels, scores)
    if not y.any():
        raise ValueError("labels contain no positives: average precision needs one")
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
    hits = np.cumsum(y)[last]
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / (last + 1)))


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The share of predictions that equal the label."""
    y, p = _classes(labels, predictions)
    return float(np.mean(y == p))


def f1(labels: ArrayLike, predictions: ArrayLike, *, average: str = "macro") -> float:
    """F1 = 2 TP / (2 TP + FP + FN) of class indices.

    "binary": the F1 of class 1. "micro": from counts summed over classes. "macro": the mean over the classes that occur.
    "weighted": the mean weighted by how often each class occurs in the labels. A class without TP, FP and FN has F1 = 0.
    """
    y, p = _classes(labels, predictions)
    if average not in ("binary", "micro", "macro", "weighted"):
        raise ValueError(f"average is {average!r}: pass 'binary', 'micro', 'macro' or 'weighted'")
    classes = np.array([1]) if average == "binary" else np.union1d(y, p)
    true = np.array([np.sum((y == c) & (p == c)) for c in classes])
    support, predicted = (np.array([np.sum(a == c) for c in classes]) for a in (y, p))
    if average == "micro":
        true, support, predicted = true.sum(keepdims=True), support.sum(keepdims=True), predicted.sum(keepdims=True)
    scores = 2 * true / np.maximum(support + predicted, 1)
    return float(np.average(scores, weights=support) if average == "weighted" else scores.mean())


class Reconstruction(NamedTuple):
    """How well distances between embeddings reconstruct the edges."""

    mean_rank: float
    map: float


def reconstruction(distances: ArrayLike, senders: ArrayLike, receivers: ArrayLike) -> Reconstruction:
    """Mean rank and mean average precision of the edges by distance (Nickel and Kiela, 2017, section 4.1).

    `distances` [N, N]: row u holds d(u, v). Among the distances of u to all nodes other than u, each neighbour v is
    ranked against the nodes that are not neighbours of u: its rank is 1 + the number of those that are nearer. The mean rank is
    over all edges; MAP is the mean over the nodes with neighbours of the average precision of -d(u, .) for "v is a neighbour of u".
    If there are rows for some nodes only, use `reconstruction_rows`.
    """
    d = np.asarray(distances)
    return reconstruction_rows(np.arange(len(d)), d, senders, receivers)


def reconstruction_rows(nodes: ArrayLike, rows: ArrayLike, senders: ArrayLike, receivers: ArrayLike) -> Reconstruction:
    """`reconstruction` from `rows` [B, N], the distances from `nodes` [B] to all nodes, for a sample of a large graph."""
    d, s, r = np.asarray(rows), np.asarray(senders, np.int64), np.asarray(receivers, np.int64)
    order = np.argsort(s, kind="stable")
    s, r = s[order], r[order]
    ranks, precisions = [], []
    for u, row in zip(np.asarray(nodes), d):
        near = np.zeros(d.shape[1], bool)
        near[r[np.searchsorted(s, u) : np.searchsorted(s, u, side="right")]] = True
        near[u] = False
        if near.any():
            others = np.sort(row[~near & (np.arange(len(row)) != u)])
            ranks.append(1 + np.searchsorted(others, row[near], side="left"))
            keep = np.arange(len(row)) != u
            precisions.append(average_precision(near[keep], -row[keep]))
    if not ranks:
        raise ValueError("no node has a neighbour: pass the edges as senders and receivers")
    return Reconstruction(mean_rank=float(np.mean(np.concatenate(ranks))), map=float(np.mean(precisions)))


def _binary(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, s = np.asarray(labels), np.asarray(scores, np.float64)
    if y.shape != s.shape or y.ndim != 1:
        raise ValueError(f"labels have shape {y.shape} and scores {s.shape}: pass [P] twice")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"labels contain {np.setdiff1d(y, (0, 1))[0]}: pass 0 and 1, or False and True")
    if np.isnan(s).any():
        raise ValueError(f"scores[{np.flatnonzero(np.isnan(s))[0]}] is nan: scores must be ordered")
    return y.astype(bool), s


def _classes(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, p = np.asarray(labels), np.asarray(predictions)
    if y.shape != p.shape or y.ndim != 1 or not len(y):
        raise ValueError(f"labels have shape {y.shape} and predictions {p.shape}: pass [P] twice, P > 0")
    return y, p
