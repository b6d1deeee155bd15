"""Metrics against scikit-learn, ties and absent classes included."""

import numpy as np
import pytest
from sklearn import metrics as sk

from parity_tests import draws
from port_jax import metrics


@pytest.mark.parametrize("levels", [3, 1000])
def test_roc_auc_and_average_precision(levels: int):
    rng = draws.rng(levels)
    for size in (7, 500):
        labels = rng.permutation(np.arange(size) % 3 == 0)
        scores = rng.integers(0, levels, size) + labels * 0.3 * levels // 1
        assert metrics.roc_auc(labels, scores) == pytest.approx(sk.roc_auc_score(labels, scores), rel=1e-14)
        expected = sk.average_precision_score(labels, scores)
        assert metrics.average_precision(labels, scores) == pytest.approx(expected, rel=1e-14)


def test_f1_and_accuracy():
    rng = draws.rng(0)
    labels, predictions = rng.integers(0, 5, (2, 200))
    labels[labels == 3] = 2  # class 3 is predicted and never true
    assert metrics.accuracy(labels, predictions) == sk.accuracy_score(labels, predictions)
    for average in ("micro", "macro", "weighted"):
        expected = sk.f1_score(labels, predictions, average=average)
        assert metrics.f1(labels, predictions, average=average) == pytest.approx(expected, rel=1e-14)
    expected = sk.f1_score(labels == 1, predictions == 1)
    assert metrics.f1(labels == 1, predictions == 1, average="binary") == pytest.approx(expected, rel=1e-14)


def test_reconstruction_of_edges_by_distance():
    """Ranks counted one by one, precision by scikit-learn."""
    rng = draws.rng(0)
    points = rng.standard_normal((12, 2)).round(0)  # with ties
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    senders, receivers = rng.integers(0, 10, (2, 25))
    ranks, precisions = [], []
    for u in range(12):
        near = sorted(set(receivers[senders == u]) - {u})
        others = [v for v in range(12) if v != u and v not in near]
        ranks += [1 + sum(distances[u, w] < distances[u, v] for w in others) for v in near]
        if near:
            rest = [v for v in range(12) if v != u]
            precisions.append(sk.average_precision_score(np.isin(rest, near), -distances[u, rest]))
    result = metrics.reconstruction(distances, senders, receivers)
    assert result.mean_rank == pytest.approx(np.mean(ranks), rel=1e-14)
    assert result.map == pytest.approx(np.mean(precisions), rel=1e-14)
    some = metrics.reconstruction_rows([2, 5], distances[[2, 5]], senders, receivers)
    assert some.map != result.map


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.roc_auc([1, 1], [0.1, 0.2]), "2 positives and 0 negatives"),
        (lambda: metrics.roc_auc([0, 2], [0.1, 0.2]), "labels contain 2"),
        (lambda: metrics.roc_auc([0, 1], [0.1, np.nan]), r"scores\[1\] is nan"),
        (lambda: metrics.roc_auc([0, 1], [0.1]), "have shape"),
        (lambda: metrics.average_precision([0, 0], [0.1, 0.2]), "no positives"),
        (lambda: metrics.f1([0, 1], [0, 1], average="samples"), "average is 'samples'"),
        (lambda: metrics.accuracy([], []), "P > 0"),
        (lambda: metrics.reconstruction(np.zeros((2, 2)), [], []), "no node has a neighbour"),
    ],
)
def test_errors(call, named: str):
    with pytest.raises(ValueError, match=named):
        call()
