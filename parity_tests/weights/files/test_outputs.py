"""Outputs: whole or not at all, never over what others wrote, also on a full disk, after a kill, beside another process."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weights
from parity_tests import slow
from parity_tests.weights.files.round_trips import everything, saved
from parity_tests.weights.helpers import run
from weights.errors import NotWritten
from weights.files import outputs
from weights.views.embed_formats import PROJECTOR

FORMS = ("out", "out.safetensors", "out.npz")


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file of this process may be longer, as on a full disk or at the end of a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", [*FORMS, "back.pth"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, form: str):
    """Nothing, and an earlier output."""
    ckpt = weights.load(saved(tmp_path / "x.pth", 200_000), arch="tree")
    write = ckpt.export if form == "back.pth" else ckpt.save
    for _ in range(2):
        before = everything(tmp_path)
        with small_disk(1 << 20), pytest.raises(NotWritten, match=r"cannot be written .*Check the folder and its free space"):
            write(tmp_path / form, overwrite=True)
        assert everything(tmp_path) == before
        write(tmp_path / form, overwrite=True)


@pytest.mark.parametrize(("form", "names"), [("csv", ["e"]), ("npy", ["e", "e.names.txt"]), ("word2vec", ["e"]), ("tensorboard", None)])
def test_embeddings_come_whole_and_in_pairs(tmp_path: Path, form: str, names: list[str] | None):
    from weights.views.embed import embeddings
    from weights.views.embed_formats import write

    found = embeddings(weights.load(saved(tmp_path / "x.pth", 20_000), arch="tree"), key="w")
    write(found, form, tmp_path / "e")
    before = everything(tmp_path)
    with small_disk(50_000), pytest.raises(NotWritten):
        write(found, form, tmp_path / "e", overwrite=True)
    assert everything(tmp_path) == before
    if names is None:
        write(found, form, tmp_path / "e")  # its own folder
        return
    assert set(before) == {"x.pth", *names}
    (tmp_path / names[0]).unlink()
    if len(names) > 1:  # one of the pair is somebody's
        with pytest.raises(NotWritten, match=r"names\.txt: exists already"):
            write(found, form, tmp_path / "e")
        assert not (tmp_path / "e").exists()


def write_new(names: list[Path], overwrite: bool) -> None:
    with outputs.new_files(*names, overwrite=overwrite) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")


def test_of_a_pair_the_first_comes_back_if_the_second_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "ab":
        (tmp_path / name).write_text("old")
    replace = os.replace
    for overwrite, failing in ((True, "b"), (False, "d")):
        names = [tmp_path / n for n in ("ab" if overwrite else "cd")]
        before = everything(tmp_path)

        def fail(source: Path, place: Path, failing: str = failing) -> None:
            if place.name == failing:
                raise OSError(28, "No space left on device")
            replace(source, place)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            patch.setattr(os, "link", lambda a, b: (_ for _ in ()).throw(OSError(1, "no links")))
            with pytest.raises(NotWritten, match="No space left"):
                write_new(names, overwrite)
        assert everything(tmp_path) == before


COMMANDS = [
    "convert x.pth --arch tree --out {out}",
    "export c {out}",
    "verify x.pth --arch tree --level bits --report {out}",
    *(f"embed x.pth --arch tree --key w --format {form} --out {{out}}" for form in ("csv", "npy", "word2vec")),
    "plot x.pth --arch tree --key w --manifold w=PoincareBall:0.001 --out {out}",
]


@pytest.mark.parametrize("command", slow.all_but(COMMANDS[:4], COMMANDS))
def test_no_command_writes_over_what_is_there(command: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights.load(saved(tmp_path / "x.pth"), arch="tree").save("c")
    name = command.partition(" ")[0]
    mine = {"plot": "mine.png", "export": "mine.pth"}.get(name, "mine.npz")
    (tmp_path / mine).write_text("years of work")
    before = everything(tmp_path)

    def given(out: str, *more: str) -> tuple[int, str]:
        code, _, err = run(monkeypatch, capsys, *command.format(out=out).split(), *more)
        return code, err

    code, err = given(mine)
    assert (code, "--force" in err) == (6, True), err
    if name not in ("plot", "export"):
        code, err = given("x.pth", "--force")
        assert code == 6, err
        assert ("exists and is not a folder" if name == "convert" else "is a file that this command reads") in err
    (tmp_path / "link.pth").symlink_to("x.pth")
    if name in ("verify", "embed"):
        assert given("link.pth", "--force")[0] == 6
    (tmp_path / "link.pth").unlink()
    assert everything(tmp_path) == before
    code, err = given(mine, "--force")
    assert code == 0, err
    assert (tmp_path / mine).read_bytes() != before[mine]


@pytest.mark.parametrize("name", ["config.json", "torch.json"])
def test_an_entry_that_is_read_is_not_replaced(name: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights.load(saved(tmp_path / "x.pth"), arch="tree").save("c")
    before = everything(tmp_path)
    code, _, err = run(monkeypatch, capsys, "convert", "x.pth", "--arch", "tree", "--config", f"c/{name}", "--out", "c", "--force")
    assert (code, err) == (6, f"error: c: its {name} is a file that this command reads. Give another path\n")
    assert everything(tmp_path) == before


def test_other_files_of_a_folder_stay(tmp_path: Path, monkeypatch, capsys):
    """Beside a conversion, and in a folder of somebody else, who may have a file of a name that would be written."""
    monkeypatch.chdir(tmp_path)
    weights.load(saved(tmp_path / "x.pth"), arch="tree").save("c")
    (tmp_path / "c" / "notes.txt").write_text("mine")
    (tmp_path / "c" / "runs").mkdir()
    (tmp_path / "c" / "runs" / "1.csv").write_text("mine")
    weights.load(saved(tmp_path / "x.pth", 4), arch="tree").save("c")
    assert weights.restore("c").variables["params"]["w"].shape == (4, 2)
    assert ((tmp_path / "c" / "notes.txt").read_text(), (tmp_path / "c" / "runs" / "1.csv").read_text()) == ("mine", "mine")
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["arrays", "config.json", "notes.txt", "report.json", "runs", "torch.json"]
    for folder, name, command in (
        ("other", "config.json", ("convert", "x.pth", "--arch", "tree", "--out", "other")),
        ("logs", PROJECTOR, ("embed", "x.pth", "--arch", "tree", "--key", "w", "--format", "tensorboard", "--out", "logs")),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("mine")
        (tmp_path / folder / "events.out").write_text("mine")
        for force in ((), ("--force",)):
            code, _, err = run(monkeypatch, capsys, *command, *force)
            assert (code, f"contains {name}, which this command did not write and would replace" in err) == (6, True)
        assert everything(tmp_path / folder) == {name: b"mine", "events.out": b"mine"}
        (tmp_path / folder / name).unlink()
        code, _, err = run(monkeypatch, capsys, *command)
        assert (code, "its other files stay" in err) == (6, True)
        assert everything(tmp_path / folder) == {"events.out": b"mine"}
        assert run(monkeypatch, capsys, *command, "--force")[0] == 0
        assert (tmp_path / folder / "events.out").read_text() == "mine"
        assert (tmp_path / folder / name).read_text() != "mine"
        assert run(monkeypatch, capsys, *command)[0] == 0  # now it is ours


def test_links_are_followed_and_stay(tmp_path: Path):
    ckpt = weights.load(saved(tmp_path / "x.pth"), arch="tree")
    (tmp_path / "disk").mkdir()
    for form in FORMS:
        (tmp_path / form).symlink_to(tmp_path / "disk" / form)
        for _ in range(2):
            ckpt.save(tmp_path / form, overwrite=True)
        assert (tmp_path / form).is_symlink()
        assert weights.restore(tmp_path / "disk" / form).arch == "tree"
    assert sorted(p.name for p in (tmp_path / "disk").iterdir()) == sorted(FORMS)


def test_links_among_the_entries_are_followed_and_stay(tmp_path: Path):
    ckpt = weights.load(saved(tmp_path / "x.pth"), arch="tree")
    ckpt.save(tmp_path / "c")
    (tmp_path / "disk").mkdir()
    (tmp_path / "c" / "report.json").rename(tmp_path / "disk" / "report.json")
    for name, target in (("report.json", "../disk/report.json"), ("config.json", "../disk/new.json")):
        (tmp_path / "c" / name).unlink(missing_ok=True)
        (tmp_path / "c" / name).symlink_to(target)
    weights.load(saved(tmp_path / "y.pth", 4), arch="tree").save(tmp_path / "c")
    assert all((tmp_path / "c" / name).is_symlink() for name in ("report.json", "config.json"))
    assert sorted(p.name for p in (tmp_path / "disk").iterdir()) == ["new.json", "report.json"]
    assert weights.restore(tmp_path / "c").report["file"] == "y.pth"
    for name, target in (
        ("report.json", "../disk"),
        ("report.json", "../gone/r.json"),
        ("arrays", "../disk"),
        ("report.json", "report.json"),
    ):
        old = tmp_path / "c" / name
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        old.symlink_to(target)
        before = everything(tmp_path)
        with pytest.raises(NotWritten, match=r"is a link to|Too many levels"):
            ckpt.save(tmp_path / "c")
        assert everything(tmp_path) == before
        old.unlink()
        ckpt.save(tmp_path / "c")


def test_no_file_of_another_kind_is_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    ckpt = weights.load(saved(tmp_path / "x.pth"), arch="tree")
    for name, why in (("pipe.npz", "not a regular file"), ("folder.npz", "is a folder"), ("x.pth", "exists and is not a folder")):
        with pytest.raises(NotWritten, match=why):
            ckpt.save(tmp_path / name, overwrite=True)


LEFT = """
import os, sys, time
from weights.files import outputs
with outputs.new_file(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


def test_only_what_an_ended_process_of_ours_left_is_removed(tmp_path: Path):
    """Not another program's, nor a living process's, nor one's of another machine or container, whose number here means nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEFT, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    theirs = process.stdout.readline().strip()
    _, head, machine, pid, begun, random, _ = theirs.split(".")
    other = f".{head}.{int(machine, 16) ^ 1:08x}.{pid}.{begun}.{random}.part"
    foreign = (".out.thesis.part", ".out.backup.part", f".hyperport.{pid}.part", other)
    for name in foreign:
        (tmp_path / name).write_text("mine")
    with outputs.new_file(tmp_path / "out") as temporary:
        temporary.write_text("x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["out", theirs, *foreign])
    process.kill()
    process.wait()
    (tmp_path / f".{head}.{machine}.{os.getpid()}.1.{random}.part").write_text("of a process that had our number")
    with outputs.new_file(tmp_path / "out", overwrite=True) as temporary:
        temporary.write_text("y")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["out", *foreign])


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path):
    def late() -> None:
        with outputs.new_file(tmp_path / "out") as temporary:
            temporary.write_text("ours")
            (tmp_path / "out").write_text("theirs")

    with pytest.raises(NotWritten, match="exists"):
        late()
    assert everything(tmp_path) == {"out": b"theirs"}


class Stopping:
    """The module os, in which the process ends at its rename or replace number `at`."""

    def __init__(self, at: int):
        self.left = at

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return partial(self.move, found) if name in ("rename", "replace") else found

    def move(self, found: Callable[..., None], *places: Path) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        found(*places)


@pytest.mark.parametrize("moves", slow.all_but((1, 3), range(7)))
def test_killed_while_entries_are_replaced_a_folder_is_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int):
    """After any number of moves: the old one until all of the new is in the folder. The next output ends what was begun."""

    def weight() -> np.ndarray:
        return np.asarray(weights.restore(tmp_path / "c").variables["params"]["w"])

    old, new, newest = (weights.load(saved(tmp_path / f"{rows}.pth", rows), arch="tree") for rows in (3, 4, 5))
    old.save(tmp_path / "c")
    (tmp_path / "c" / "notes.txt").write_text("mine")
    monkeypatch.setattr(outputs, "os", Stopping(moves))
    with pytest.raises(KeyboardInterrupt):
        new.save(tmp_path / "c")
    monkeypatch.setattr(outputs, "os", os)
    assert len(weight()) == (3 if moves < 2 else 4)  # a rename of the whole, which a folder that is not empty refuses; then of all entries
    newest.save(tmp_path / "c")
    np.testing.assert_array_equal(weight(), np.arange(10.0).reshape(5, 2))
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["arrays", "config.json", "notes.txt", "report.json", "torch.json"]


WRITER = """
import sys, time, types
from pathlib import Path
package = types.ModuleType("weights")  # without what it imports: jax takes longer than the writing
package.__path__ = [sys.argv[1]]
sys.modules["weights"] = package
from weights.files.outputs import new_directory, new_file

folder, name = Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(int(sys.argv[4])):
    for target in ("same", f"own_{name}"):
        with new_directory(folder / target, lambda place: True) as new:
            for part in ("torch.json", "a", "b"):
                (new / part).write_text(name)
                time.sleep(0.001)
        with new_file(folder / f"{target}.bin", overwrite=True) as new:
            with open(new, "w") as file:
                for part in range(4):
                    file.write(name * 5000)
                    file.flush()
                    time.sleep(0.001)
"""
TURNS = 20


def test_two_processes_write_at_once(tmp_path: Path):
    """Neither takes away what the other is writing, and what stands at a place is always one writer's, whole."""
    command = [sys.executable, "-c", WRITER, str(Path(outputs.__file__).parents[1]), str(tmp_path)]
    writers = [
        subprocess.Popen([*command, name, str(TURNS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "xy"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "same.bin").exists():
            seen.add((tmp_path / "same.bin").read_text())
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    assert seen <= {"x" * 20000, "y" * 20000}
    for target, names in (("same", "xy"), ("own_x", "x"), ("own_y", "y")):
        texts = {path.read_text() for path in (tmp_path / target).iterdir()}
        assert len(texts) == 1
        assert texts <= {*names}
        assert {*(tmp_path / f"{target}.bin").read_text()} <= {*names}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"{t}{e}" for t in ("same", "own_x", "own_y") for e in ("", ".bin")])
