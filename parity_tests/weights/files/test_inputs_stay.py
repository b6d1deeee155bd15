"""No command destroys what it reads: shards of an index, what is in a folder, a file behind a link; and what the system says of a place."""

from __future__ import annotations

import errno
import inspect
import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import weights
from parity_tests.weights.files.round_trips import everything, saved
from parity_tests.weights.helpers import run
from weights import cli
from weights.errors import NotWritten
from weights.files import folder, outputs
from weights.files.reader import files_of

TREE = ("--arch", "tree", "--manifold", "*=Euclidean")


def index(path: Path) -> Path:
    """An index of two shards."""
    for name in ("w", "v"):
        safetensors.torch.save_file({name: torch.arange(6.0).reshape(3, 2)}, path.parent / f"{name}.safetensors")
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"w": "w.safetensors", "v": "v.safetensors"}}))
    return path


REFUSED = [
    "export c c/config.json",
    "export c c/arrays/manifest.ocdbt",
    "export c linked",
    "export c report",
    "embed c --key w --out c/report.json",
    "embed c --key w --format npy --out c/torch.json",
    "plot c --key w --out c/torch.json",
    "verify x.pth {tree} --converted c --level bits --report c/torch.json",
    "convert m.index.json {tree} --out w.safetensors",
    "verify m.index.json {tree} --level bits --report v.safetensors",
    "embed m.index.json {tree} --key w --out w.safetensors",
    "convert c/arrays/mine.pth {tree} --out c",
]


def test_nothing_that_is_read_is_replaced(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights.load(saved(tmp_path / "x.pth"), arch="tree").save("c")
    saved(tmp_path / "c" / "arrays" / "mine.pth")
    index(tmp_path / "m.index.json")
    (tmp_path / "linked").symlink_to("c/torch.json")
    (tmp_path / "c" / "report.json").rename("report")
    (tmp_path / "c" / "report.json").symlink_to("../report")
    before = everything(tmp_path)
    for command in REFUSED:
        code, _, err = run(monkeypatch, capsys, *command.format(tree=" ".join(TREE)).split(), "--force")
        assert (code, "is a file that this command reads. Give another path" in err) == (6, True), (command, code, err)
    with pytest.raises(NotWritten, match="is a file that this command reads"):
        weights.export("c", "c/config.json", overwrite=True)
    assert everything(tmp_path) == before
    (tmp_path / "c" / "arrays" / "mine.pth").unlink()
    for allowed in ("convert x.pth {tree} --out c", "export c c/back.pth", "convert c/back.pth {tree} --out c"):
        code, _, err = run(monkeypatch, capsys, *allowed.format(tree=" ".join(TREE)).split(), "--force")
        assert code == 0, err
    assert torch.load("c/back.pth")["w"].equal(torch.arange(6.0).reshape(3, 2))


OUTPUTS = {
    "convert": ("--out out.npz", "--out folder"),
    "export": ("out.pth",),
    "verify": ("--report out.json", "--html page.html"),
    "scaffold": ("--out out.py",),
    "embed": ("--out out.csv", "--out out.npy --format npy", "--out folder --format tensorboard"),
    "plot": ("--out out.png",),
}
WRITTEN = {"--html page.html": "page.json", "--out out.npy --format npy": "out.npy.names.txt",
           "--out folder": "folder/config.json", "--out folder --format tensorboard": "folder/vectors.tsv"}  # fmt: skip
"""Where an output goes to, if that is not the path itself."""
CODE = "import weights\nimport {0}_beside\nPORT = weights.Port(None, rules=[], inputs=None, name='mine')\n"


def options_of(command: str) -> dict[str, bool]:
    """The options of a command, and whether each is a path."""
    parameters = inspect.signature(getattr(cli, command), eval_str=True).parameters.values()
    return {f"--{p.name.replace('_', '-')}": "Path" in str(p.annotation) for p in parameters}


def test_no_command_replaces_anything_that_it_reads(tmp_path: Path, monkeypatch, capsys):
    """Each output of each command at its inputs: files, shards of an index, the port and what it imports, what is in a folder."""
    monkeypatch.chdir(tmp_path)
    commands = [command.callback.__name__ for command in cli.app.registered_commands if command.callback is not None]
    assert OUTPUTS.keys() == {command for command in commands if "--force" in options_of(command)}
    own = f"port_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{own}.py").write_text(CODE.format(own))
    (tmp_path / f"{own}_beside.py").write_text("")
    index(tmp_path / "m.index.json")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "1").write_text("a state")
    (tmp_path / "folder").mkdir()
    for name in ("witness", "config", "names", "graph", "inputs", "made-with", "like"):
        (tmp_path / name).write_text(name)
    before = everything(tmp_path)
    for command, outputs_ in OUTPUTS.items():
        options = options_of(command)
        read = {o: o.removeprefix("--") for o in options if options[o] and o not in ("--file", "--folder", "--out", "--html", "--report")}
        read |= {"--converted": "run"} if "--converted" in read else {}
        given = [word for option in read.items() for word in option] + ["--port", f"{own}:PORT"] * ("--port" in options)
        model = "run" if command == "export" else "m.index.json"
        files = ["run/checkpoints/1"] if model == "run" else ["m.index.json", "w.safetensors", "v.safetensors"]
        files += ["run/checkpoints/1" if name == "run" else name for name in read.values()]
        files += [f"{own}.py", f"{own}_beside.py"] * ("--port" in options)
        for output in outputs_:
            place = tmp_path / (WRITTEN.get(output) or next(word for word in output.split() if word.startswith("out")))
            for target in files if output == outputs_[0] else files[-2:]:
                place.symlink_to(tmp_path / target)
                code, _, err = run(monkeypatch, capsys, command, model, *given, *output.split(), "--force")
                place.unlink()
                assert (code, "that this command reads. Give another path" in err) == (6, True), (command, output, target, err)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("outputs_", ["--html x.html --report x.html", "--html x.html --report x.json", "--html a.html --report to-a.json"])
def test_two_outputs_at_one_place_are_refused(outputs_: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "x.pth")
    (tmp_path / "to-a.json").symlink_to("a.html")
    code, _, err = run(monkeypatch, capsys, "verify", "x.pth", *TREE, "--level", "bits", *outputs_.split(), "--force")
    assert (code, "one over the other. Give each its own path" in err) == (2, True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["to-a.json", "x.pth"]


def test_the_shards_of_an_index_are_read_with_it(tmp_path: Path):
    (tmp_path / "torn.json").write_text("{")
    given = index(tmp_path / "m.index.json"), None, tmp_path / "torn.json", tmp_path / "gone.json"
    assert sorted(path.name for path in files_of(*given)) == sorted(
        ["m.index.json", "w.safetensors", "v.safetensors", "torn.json", "gone.json"]
    )


@pytest.mark.parametrize("form", ["", ".npz", ".safetensors"])
def test_places_that_the_system_refuses(tmp_path: Path, monkeypatch, capsys, form: str):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "x.pth")
    for name, target in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}{form}").symlink_to(f"{target}{form}")
    before = everything(tmp_path)
    for place, why in (("x" * 300, "File name too long"), ("a", "Too many levels"), ("x.pth/y", "folder"), ("gone/y", "folder")):
        code, _, err = run(monkeypatch, capsys, "convert", "x.pth", *TREE, "--out", f"{place}{form}", "--force")
        assert (code, why in err, len(err.splitlines())) == (6, True, 1), (place, code, err)
    for command in ("inspect", "embed --key w --out e", "export"):
        code, _, err = run(monkeypatch, capsys, *command.split(), "y" * 300, *["back.pth"] * (command == "export"))
        assert (code, len(err.splitlines())) == (3, 1), (command, code, err)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EDQUOT, errno.EACCES])
def test_every_error_of_a_place_is_one_of_the_output(tmp_path: Path, monkeypatch, code: int):
    """Whichever look at the place the system refuses."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    def write() -> None:
        with outputs.new_file(tmp_path / "out") as temporary:
            temporary.write_bytes(b"x")

    def make() -> None:
        with outputs.new_directory(tmp_path / "out", lambda place: True):
            pass

    for owner, name, output in ((Path, "is_dir", write), (Path, "exists", write), (Path, "glob", write), (os, "link", write),
                                (Path, "mkdir", make), (Path, "is_dir", make), (Path, "glob", make)):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            patch.setattr(os, "replace", fail)
            with pytest.raises(NotWritten, match=os.strerror(code)):
                output()


SAID = {
    "No space left on device": (
        'DATA_LOSS: Error writing "0/.zarray": Failed to write 598093 bytes to file 15: No space left on device '
        '[os_error_code=\'28\'] [tensorstore_spec=\'{"driver":"zarr","kvstore":{"path":"0/"}}\']'
    ),
    "Disk quota exceeded": "RESOURCE_EXHAUSTED: Error writing \"a\": b [source locations='x.cc:1'] [os_error_code='122']\nmore",
    "Something else": 'UNKNOWN: Error writing "0/0": Something else [tensorstore_spec=\'{"driver":"zarr","metadata":{"a":": "}}\']',
}


@pytest.mark.parametrize("cause", SAID)
def test_the_cause_in_what_tensorstore_says(cause: str, tmp_path: Path, monkeypatch):
    import orbax.checkpoint as ocp

    def fail(*_: object, **__: object) -> None:
        raise ValueError(SAID[cause])

    monkeypatch.setattr(ocp.Checkpointer, "save", fail)
    with pytest.raises(NotWritten) as caught:
        folder.write(tmp_path / "c", {"w": np.ones(3)}, {name: {} for name in folder.DOCUMENTS})
    assert caught.value.cause == f"cannot be written (the arrays: {cause})"
