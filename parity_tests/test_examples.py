"""The examples run as a reader would run them; the small ones have tests of their subject elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from examples import readme_picture, zero_shot
from examples.cluster import embed_tree
from parity_tests import draws, processes
from port_jax.data import load_graph

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        pytest.param(("--hidden", "--level", "bits"), {"bits"}, id="one layer, bits", marks=pytest.mark.slow),
        pytest.param((), {"bits", "settings", "forward", "grad", "step"}, id="two layers, all levels", marks=pytest.mark.slow),
    ],
)
def test_migrate_hgat_moves_a_network_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], levels: set[str]
):
    """On the hyperboloid and a small tree; `make demo` runs the ball on the graph that ships. The picture of README is drawn from it."""
    tree = nx.convert_node_labels_to_integers(nx.balanced_tree(3, 3))
    edges = np.array(tree.edges, np.int32).T
    rng = draws.rng(0)
    labels = (np.arange(tree.number_of_nodes()) % 3).astype(np.int32)
    features = (np.eye(3, dtype=np.float32)[labels] + rng.random((len(labels), 3), np.float32)).astype(np.float32)
    np.savez(tmp_path / "tree.npz", edges=edges, features=features, labels=labels, label_names=np.array(["a", "b", "c"]))
    command = [sys.executable, "examples/migrate_hgat.py", "--data", tmp_path / "tree.npz", "--out", tmp_path / "out",
               "--manifold", "Lorentz", "--preset", "gil", "--steps", "10", *options]  # fmt: skip
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "step/s" not in done.stderr, "a progress bar in a log"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert all(row["ok"] for row in report["verify"]["rows"])
    assert {row["level"] for row in report["verify"]["rows"]} == levels
    assert report["largest relative difference of the losses after the conversion"] < 1e-3
    for name in ("losses.png", "disk.png", "hgat.pth", "converted"):
        assert (tmp_path / "out" / name).exists(), name
    monkeypatch.setattr(readme_picture, "load_graph", lambda path: load_graph(tmp_path / "tree.npz"))
    monkeypatch.setattr(sys, "argv", ["readme_picture", "--results", str(tmp_path / "out"), "--out", str(tmp_path / "demo.png")])
    readme_picture.main()
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_migrate_hgat_refuses_a_graph_that_is_none(tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(b"nothing of the kind")
    done = subprocess.run([sys.executable, "examples/migrate_hgat.py", "--data", str(tmp_path / "x.npz"), "--out", str(tmp_path / "out")],
                          cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "x.npz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "hgat.pth").exists()


@pytest.mark.slow  # models/test_meru.py compares both sides' methods
def test_images_and_texts_are_classified_retrieved_and_traversed_alike(tmp_path: Path):
    """Torch and JAX after a few steps: the same features and way to the root, and classes and neighbours but for images between two."""
    zero_shot.main(["--steps", "4", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert found["torch"].keys() == found["JAX"].keys()
    assert all(abs(found["torch"][name] - found["JAX"][name]) <= 0.02 for name in found["torch"])  # 4 of 200 images
    assert found["largest relative difference of features"] < 1e-4
    assert found["on its way to the root"][-1] == "[root]"
    assert (tmp_path / "traversal.png").read_bytes().startswith(b"\x89PNG")


def _on_one_eight_and_two(program: str, arguments: tuple[str, ...], folder: Path) -> list[dict[str, float]]:
    """What a program of the cluster tells on one device, on eight, and in two processes with two each; the losses are the same.

    The processes find each other by variables, as in the files for Kubernetes.
    """
    found = []
    for name, devices, count in (("one", 1, 1), ("eight", 8, 1), ("two", 2, 2)):
        options = {"devices": devices, "processes": count, "by_variables": True}
        told = processes.run(f"examples.cluster.{program}", *arguments, "--out", str(folder / name), **options)
        found.append(json.loads(told[0].splitlines()[-1]))
    assert [(run["devices"], run["processes"]) for run in found] == [(1, 1), (8, 1), (4, 2)]
    assert max(run["loss"] for run in found) - min(run["loss"] for run in found) < 1e-5  # float32
    return found


TREE = ("--branching", "3", "--depth", "3", "--dim", "3", "--steps", "12", "--batch", "16", "--negatives", "3")


@pytest.mark.slow  # training/test_sparse_step.py trains such a table
def test_a_tree_is_embedded_alike_on_any_number_of_devices_and_processes(tmp_path: Path):
    found = _on_one_eight_and_two("embed_tree", TREE, tmp_path)
    assert {(run["nodes"], run["step"]) for run in found} == {(40, 12)}
    assert len({run["nearest"] for run in found}) == 1
    for name in ("one", "eight", "two"):
        assert len((tmp_path / name / "history.csv").read_text().splitlines()) == 5


GRAPH = ("--nodes", "300", "--steps", "4", "--batches", "8", "--batch", "8", "--fanouts", "3", "2", "--width", "4")


@pytest.mark.slow  # training/test_stacked.py trains such batches
def test_a_network_is_trained_alike_on_any_number_of_devices_and_processes(tmp_path: Path):
    """All of them make the same four steps of eight samples."""
    found = _on_one_eight_and_two("train_hgat", GRAPH, tmp_path)
    assert {(run["nodes"], run["edges"], run["step"], run["epochs"]) for run in found} == {(300, 598, 4, 32 / 30)}
    assert len({run["accuracy"] for run in found}) == 1


def test_ancestors_are_above_their_nodes():
    """In a tree of three children each: the root has none, and each ancestor of a node comes as often as another."""
    rng = draws.rng(0)
    found = embed_tree.ancestors(np.repeat([0, 2, 39], 3000), 3, rng)
    assert (found[:6000] == 0).all()
    assert set(found[6000:].tolist()) == {0, 3, 12}
    assert np.bincount(found[6000:])[[0, 3, 12]].min() > 850
