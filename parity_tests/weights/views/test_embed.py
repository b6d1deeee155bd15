"""Node embeddings out of checkpoints: the numbers of torch and geoopt, with their names, in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import geoopt
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws, slow
from parity_tests.weights.helpers import run
from parity_tests.weights.views.nouns import NAMES, nouns, points
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, Sphere, Stereographic
from reference_torch.graphs.graph import Graph as TorchGraph
from reference_torch.models.hgat import HGAT
from weights import Unreadable, Usage
from weights.views.embed import Embeddings, described
from weights.views.embed_formats import FORMATS, write

SHARED = Path(__file__).parents[4] / "shared" / "fixtures"


def read_csv(path) -> tuple[list[str], np.ndarray]:
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", *(f"x{i}" for i in range(len(header) - 1))]
    return [row[0] for row in rows], np.array([[float(x) for x in row[1:]] for row in rows])


@pytest.mark.parametrize("manifold", ["poincare", "lorentz"])
def test_tables_with_their_names(monkeypatch, capsys, tmp_path, manifold):
    table = nouns(tmp_path / "x.pth", manifold)
    ckpt = weights.load(tmp_path / "x.pth")
    files = [tmp_path / name for name in ("x.pth", "out", "out.safetensors", "out.npz")]
    for file in files[1:]:
        ckpt.save(file)
    written = set()
    for file in files:
        code, out, err = run(monkeypatch, capsys, "embed", file, "--out", tmp_path / "e.csv", "--force", "--json")
        assert code == 0, err
        assert json.loads(out)["names"] == "the checkpoint's objects"
        facts = json.loads(out)
        assert (facts["curvature"], facts["sectional_curvature"], facts["nodes"]) == (1, -1, 6)
        written.add((tmp_path / "e.csv").read_bytes())
    assert len(written) == 1
    names, found = read_csv(tmp_path / "e.csv")
    assert names == list(NAMES)
    assert np.array_equal(found, table.numpy())
    assert run(monkeypatch, capsys, "embed", files[1], "--out", tmp_path / "t.csv", "--space", "tangent")[0] == 0
    ball, hyperboloid = geoopt.PoincareBall(c=1.0), geoopt.Lorentz(k=1.0)
    want = ball.logmap0(table) if manifold == "poincare" else hyperboloid.logmap0(table)[:, 1:]
    np.testing.assert_allclose(read_csv(tmp_path / "t.csv")[1], want, rtol=1e-12, atol=1e-15)


@pytest.mark.slow  # models/test_embeddings.py is its like
@pytest.mark.parametrize("manifold", slow.all_but({"Lorentz"}, ["PoincareBall", "Lorentz"]))
def test_an_encoder_runs_on_a_graph(tmp_path, manifold):
    random = draws.rng(0)
    settings = {"in_features": 4, "features": [6, 3], "heads": 2, "manifold": manifold, "curvature": [0.7, 1.3, 0.6], "preset": "htgn"}
    draws.seed_torch(0)
    model = HGAT(**settings)
    torch.save({"model": model.state_dict(), "config": {"arch": "hgat", **settings}}, tmp_path / "x.pth")
    ends = np.array([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 6, 6, 6]])
    x = random.standard_normal((8, 4)).astype(np.float32)
    np.savez(tmp_path / "g.npz", edges=ends.astype(np.int32), features=x, names=np.array([f"n{i}" for i in range(8)]))
    both = torch.as_tensor(np.concatenate([ends, ends[::-1]], 1))
    with torch.no_grad():
        want = model.encode(torch.as_tensor(x), TorchGraph(both[0], both[1], 8, None, None)).numpy()
    ckpt = weights.load(tmp_path / "x.pth")
    found = weights.embeddings(ckpt, graph=tmp_path / "g.npz")
    assert (found.origin, found.names[7]) == ("encoder", "n7")
    np.testing.assert_allclose(found.points, want, rtol=1e-4, atol=1e-5)
    last = PoincareBall(0.6) if manifold == "PoincareBall" else Lorentz(0.6)
    assert type(found.manifold) is type(last)
    tangent = weights.embeddings(ckpt, graph=tmp_path / "g.npz", space="tangent")
    want = np.asarray(last.logmap0(jnp.asarray(want)))[:, 1 if manifold == "Lorentz" else 0 :]
    np.testing.assert_allclose(tangent.points, want, rtol=1e-3, atol=1e-5)


def test_features_of_nodes_and_edges(tmp_path):
    """Edge features hold in both directions; without them in the file the model is refused."""
    settings = {"in_features": 4, "features": [3], "heads": 1, "curvature": 0.7, "preset": "markov_blanket", "node_features": 2,
                "edge_features": 3}  # fmt: skip
    draws.seed_torch(0)
    model = HGAT(**settings)
    torch.save({"model": model.state_dict(), "config": {"arch": "hgat", **settings}}, tmp_path / "x.pth")
    random, ends = draws.rng(0), np.array([[0, 1, 2, 3, 2], [1, 2, 3, 4, 2]])
    x, nodes, edges = (random.standard_normal(shape).astype(np.float32) for shape in ((5, 4), (5, 2), (5, 3)))
    np.savez(tmp_path / "g.npz", edges=ends, features=x, node_features=nodes, edge_features=edges)
    both = torch.as_tensor(np.concatenate([ends[:, :4], ends[::-1, :4]], 1))
    beside = torch.as_tensor(np.concatenate([edges[:4]] * 2))
    with torch.no_grad():
        want = model.encode(torch.as_tensor(x), TorchGraph(both[0], both[1], 5, None, beside), torch.as_tensor(nodes)).numpy()
    ckpt = weights.load(tmp_path / "x.pth")
    np.testing.assert_allclose(weights.embeddings(ckpt, graph=tmp_path / "g.npz").points, want, rtol=1e-4, atol=1e-6)
    np.savez(tmp_path / "h.npz", edges=ends, features=x, node_features=nodes)
    with pytest.raises(Usage, match=r"takes edge features.*Add an array edge_features to the \.npz"):
        weights.embeddings(ckpt, graph=tmp_path / "h.npz")
    for wrong, message in ((edges[:4], r"edge_features has shape \(4, 3\)"), (edges * np.inf, "edge_features is not finite in row 0")):
        np.savez(tmp_path / "h.npz", edges=ends, features=x, node_features=nodes, edge_features=wrong)
        with pytest.raises(Unreadable, match=message):
            weights.embeddings(ckpt, graph=tmp_path / "h.npz")


@pytest.mark.skipif(not SHARED.exists(), reason="no folder ../shared with the authors' checkpoints")
@pytest.mark.parametrize("folder", ["airport_nc_poincare", "hybonet_disease_lp_att"])
def test_the_authors_embeddings(monkeypatch, capsys, tmp_path, folder):
    here = SHARED / folder
    file = next(p for p in (here / "full.pth", here / "model.pth") if p.exists())
    args = ("embed", file, "--config", here / "config.json", "--graph", here / "expected.npz", "--format", "npy")
    code, _, err = run(monkeypatch, capsys, *args, "--out", tmp_path / "e.npy")
    assert code == 0, err
    want = np.load(here / "expected.npz")["embeddings"]
    found = np.load(tmp_path / "e.npy")
    assert np.abs(found - want).max() < 1e-4 * np.abs(want).max()
    assert (tmp_path / "e.npy.names.txt").read_text().splitlines() == [str(i) for i in range(len(want))]


@pytest.mark.parametrize("normalize_adj", [1, 0])
def test_plain_edges_are_normalised_as_in_training(tmp_path, normalize_adj):
    """HGCN trains on D^-1 (A + I) unless normalize_adj is 0: a file of plain edges gives what a file of the matrix gives."""
    draws.seed_torch(0)
    state = {"encoder.layers.0.linear.weight": torch.randn(3, 4), "encoder.layers.0.linear.bias": torch.randn(3)}
    torch.save(state, tmp_path / "x.pth")
    config = {"model": "HGCN", "task": "lp", "num_layers": 1, "dim": 3, "feat_dim": 4, "manifold": "PoincareBall", "c": 0.7, "act": "relu",
              "normalize_adj": normalize_adj}  # fmt: skip
    ckpt = weights.load(tmp_path / "x.pth", config=config)
    x = draws.rng(0).standard_normal((5, 4)).astype(np.float32)
    ends = np.array([[0, 1, 2, 0], [1, 2, 3, 3]], np.int32)
    np.savez(tmp_path / "plain.npz", edges=ends, features=x)
    dense = np.zeros((5, 5), np.float32)
    dense[ends[0], ends[1]] = dense[ends[1], ends[0]] = 1
    if normalize_adj:
        dense += np.eye(5, dtype=np.float32)
        dense /= dense.sum(1, keepdims=True)
    row, column = np.nonzero(dense)
    np.savez(tmp_path / "full.npz", adj_row=row, adj_col=column, adj_val=dense[row, column], features=x)
    plain, full = (weights.embeddings(ckpt, graph=tmp_path / f"{name}.npz") for name in ("plain", "full"))
    np.testing.assert_allclose(plain.points, full.points, rtol=1e-5, atol=1e-6)
    assert np.array_equal(plain.edges, ends)


def kg_file(path, relations: int):
    tables = {"entity.weight": (5, 4), "rel.weight": (2, 8), "rel_diag.weight": (2, 4), "bh.weight": (5, 1), "bt.weight": (5, 1)}
    draws.seed_torch(0)
    state = {name: 0.3 * torch.randn(shape) for name, shape in tables.items()}
    torch.save({**state, "c": torch.randn(relations, 1), "gamma": torch.zeros(1)}, path)
    return weights.load(path, config={"model": "RotH", "multi_c": relations > 1, "bias": "learn", "double_neg": False}, arch="kgemb"), state


def test_entities_of_knowledge_graphs(tmp_path):
    ckpt, state = kg_file(tmp_path / "x.pth", 1)
    c = torch.nn.functional.softplus(torch.load(tmp_path / "x.pth")["c"]).item()
    want = geoopt.PoincareBall(c=c).expmap0(state["entity.weight"])
    np.testing.assert_allclose(weights.embeddings(ckpt).points, want, rtol=1e-5, atol=1e-6)
    assert np.array_equal(weights.embeddings(ckpt, space="tangent").points, state["entity.weight"])
    ckpt, state = kg_file(tmp_path / "x.pth", 2)
    assert np.array_equal(weights.embeddings(ckpt, space="tangent").points, state["entity.weight"])
    with pytest.raises(Usage, match="--space tangent"):
        weights.embeddings(ckpt)


def test_a_parameter_by_its_key(tmp_path):
    ball = PoincareBall(0.7)
    tree = {"a.emb": points().float(), "b": points(4, 2, seed=1), "w": torch.randn(3, 2), "v": torch.randn(3)}
    torch.save(tree, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"a.emb": ball})
    assert np.array_equal(weights.embeddings(ckpt).points, tree["a.emb"])
    for key in ("b", "params/b"):
        assert np.array_equal(weights.embeddings(ckpt, key=key).points, tree["b"])
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"a.emb": ball, "b": ball})
    with pytest.raises(Usage, match=r"2 tables.*--key of one parameter of a\.emb, b"):
        weights.embeddings(ckpt)
    with pytest.raises(Usage, match=r"no parameter is called 'c'.*a\.emb, b"):
        weights.embeddings(ckpt, key="c")
    with pytest.raises(Usage, match=r"shape \(3,\).*--key"):
        weights.embeddings(ckpt, key="v")
    sphere = weights.load(tmp_path / "x.pth", arch="tree")
    with pytest.raises(Usage, match=r"no tables.*of a\.emb, b, w"):
        weights.embeddings(sphere)


def test_no_origin_no_tangent_space(tmp_path):
    table = points()
    torch.save({"s": table / table.norm(dim=1, keepdim=True)}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"s": Sphere()})
    assert len(weights.embeddings(ckpt).points) == 6
    with pytest.raises(Usage, match="Sphere has no origin"):
        weights.embeddings(ckpt, space="tangent")


def test_names_that_a_spreadsheet_would_compute(tmp_path):
    """They have an apostrophe before them, by which spreadsheets know text; without it, each name is as it was."""
    computed = ["=1+1", "+1", "-a", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-"]
    plain = ["a=1", "b-c", "'", "'quoted'", "ß", ""]
    names = (*computed, *plain)
    write(Embeddings(np.ones((len(names), 2)), names, None, "objects", "params/x"), "csv", tmp_path / "e.csv")
    assert read_csv(tmp_path / "e.csv")[0] == [*(f"'{name}" for name in computed), *plain]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_formats_hold_every_bit(tmp_path, dtype):
    random = draws.rng(0)
    values = np.concatenate([random.standard_normal(30) * 10.0 ** random.integers(-30, 30, 30), [0.1, 1 / 3, -0.0, 1e-45, 5e-324, 6e-8]])
    array = np.clip(values, -6e4, 6e4).astype(dtype).reshape(6, 6)
    found = Embeddings(array, NAMES, None, "objects", "params/x", np.array([0, 1, 0, 1, 0, 1]), ("cat", "d\tog"))
    assert set(FORMATS) == {"csv", "npy", "word2vec", "tensorboard"}
    write(found, "csv", tmp_path / "e.csv")
    names, numbers = read_csv(tmp_path / "e.csv")
    assert names == list(NAMES)
    assert numbers.astype(dtype).tobytes() == array.tobytes()
    write(found, "word2vec", tmp_path / "e.txt")
    head, *rows = (tmp_path / "e.txt").read_text(encoding="utf-8").splitlines()
    assert head == "6 6"
    assert [row.split(" ")[0] for row in rows] == ["mammal.n.01", 'sea_"lion",_brown', "chat_noir", "ß", "5", "dog_house"]
    numbers = np.array([[float(x) for x in row.split(" ")[1:]] for row in rows])
    assert numbers.astype(dtype).tobytes() == array.tobytes()
    files = write(found, "npy", tmp_path / "e.npy")
    assert np.load(files[0]).astype(dtype).tobytes() == array.tobytes()
    assert files[1].read_text(encoding="utf-8").splitlines() == [n.replace("\t", " ") for n in NAMES]
    write(found, "tensorboard", tmp_path / "board")
    write(found, "tensorboard", tmp_path / "board")  # its own folder is replaced
    rows = (tmp_path / "board" / "vectors.tsv").read_text().splitlines()
    assert np.array([[float(x) for x in row.split("\t")] for row in rows]).astype(dtype).tobytes() == array.tobytes()
    metadata = [row.split("\t") for row in (tmp_path / "board" / "metadata.tsv").read_text(encoding="utf-8").splitlines()]
    assert metadata[0] == ["name", "label"]
    assert metadata[3] == ["chat noir", "cat"]
    assert len(metadata) == 7
    assert 'tensor_path: "vectors.tsv"' in (tmp_path / "board" / "projector_config.pbtxt").read_text()


def test_numbers_are_the_shortest():
    from weights.views.embed_formats import numbers

    assert list(numbers(np.array([[0.1, 1e-7, 3]], np.float32))) == [["0.1", "1e-07", "3.0"]]
    assert list(numbers(np.array([[0.1, 1 / 3]]))) == [["0.1", "0.3333333333333333"]]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["hgat.pth"], 2, "Give --graph data.npz"),
        (["hgat.pth", "--graph", "absent.npz"], 3, "does not exist"),
        (["hgat.pth", "--graph", "narrow.npz"], 5, "the graph does not fit the model"),
        (["nouns.pth", "--graph", "narrow.npz"], 5, "the graph has 2 nodes and params/embedding 6 rows"),
        (["nouns.pth", "--names", "two.txt"], 5, "2 names for 6 nodes"),
        (["nouns.pth", "--names", "absent.txt"], 3, "one name per line"),
        (["nouns.pth", "--format", "tensorboard", "--out", "mine"], 6, "was not written by this command"),
        (["nouns.pth", "--format", "word2vec", "--names", "same.txt"], 5, "both become 'a_b'"),
        (["nouns.pth", "--out", "absent/e.csv"], 6, "does not exist"),
        (["nouns.pth", "--format", "bin"], 2, "Invalid value"),
        (["nouns.pth", "--space", "klein"], 2, "Invalid value"),
        (["out", "--curvature", "1"], 2, "Omit --curvature"),
    ],
)
def test_errors_say_what_to_give(monkeypatch, capsys, tmp_path, args, code, message):
    monkeypatch.chdir(tmp_path)
    settings = {"in_features": 4, "features": [3], "heads": 1, "curvature": 0.7}
    torch.save({"model": HGAT(**settings).state_dict(), "config": {"arch": "hgat", "preset": "htgn", **settings}}, "hgat.pth")
    nouns("nouns.pth")
    weights.load("nouns.pth").save("out")
    np.savez("narrow.npz", edges=np.array([[0], [1]], np.int32), features=np.ones((2, 2), np.float32))
    Path("two.txt").write_text("a\nb\n")
    Path("same.txt").write_text("a b\na_b\nc\nd\ne\nf\n")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("x")
    before = sorted(Path().rglob("*"))
    found, out, err = run(monkeypatch, capsys, "embed", *args, *(() if "--out" in args else ("--out", "e")))
    assert (found, out) == (code, "")
    assert message in err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("manifold", "curvature", "sectional"),
    [(PoincareBall(0.7), 0.7, -0.7), (Stereographic(-0.7), -0.7, -0.7), (Lorentz(2.0), 2.0, -0.5), (Euclidean(), None, None)],
)
def test_the_curvature_is_the_number_that_the_manifold_is_made_with(manifold: Any, curvature: float | None, sectional: float | None):
    """As inspect prints it and --manifold takes it; the sectional one has its own name."""
    told = described(Embeddings(np.zeros((2, 3)), ("a", "b"), manifold, "numbers", "w"))
    assert told["curvature"] == (None if curvature is None else pytest.approx(curvature, rel=1e-6))
    assert told["sectional_curvature"] == (None if sectional is None else pytest.approx(sectional, rel=1e-6))
