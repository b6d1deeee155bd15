"""Compiled programs on disk: found by the next process, bounded, by kind of processor, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

import port_jax
from port_jax import compilation

PROGRAM = """
import jax, jax.numpy as jnp, jax.monitoring, port_jax
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name))
float(jnp.cosh(1.5))  # a cache may also begin late
folder = port_jax.compilation_cache()
print(jax.jit(lambda x: jnp.sinh(x) + 2 * x)(1.5), seen.count("/jax/compilation_cache/cache_hits"), folder)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home directory, with no folder chosen; jax's settings are put back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_next_process_finds_the_program(tmp_path: Path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {"XDG_CACHE_HOME": str(tmp_path)}
    found = [subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    (one, before, folder), (other, after, again) = (text.split() for text in found)
    assert one == other
    assert folder == again
    assert Path(folder).parent == tmp_path / "hyperport"
    assert int(before) == 0 < int(after)
    assert Path(folder).stat().st_mode & 0o777 == 0o700


def test_a_chosen_folder_remains(home: Path):
    jax.config.update("jax_compilation_cache_dir", "chosen")
    assert port_jax.compilation_cache() == Path("chosen")
    assert port_jax.compilation_cache(home / "given") == home / "given"
    assert jax.config.values["jax_compilation_cache_dir"] == str(home / "given")


def test_kinds_of_processor_do_not_share(home: Path, monkeypatch: pytest.MonkeyPatch):
    first = compilation.cache_folder()
    monkeypatch.setattr(compilation, "_processor", lambda: "flags: fpu vme")
    assert compilation.cache_folder().parent == first.parent
    assert compilation.cache_folder() != first


def test_a_folder_that_others_write_to_is_not_used(home: Path):
    folder = compilation.cache_folder()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.warns(UserWarning, match="others can write to .*; give compilation_cache a folder of your own"):
        assert port_jax.compilation_cache() is None
    assert compilation.cache_variables() == {}
    folder.rmdir()
    folder.write_text("a file")
    with pytest.warns(UserWarning, match="cannot be made"):
        assert port_jax.compilation_cache() is None
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_programs_beyond_the_limit_are_deleted_once_a_day(home: Path, monkeypatch: pytest.MonkeyPatch):
    def names() -> list[str]:
        return sorted(path.name for path in home.glob("*-cache"))

    for day, name in enumerate(("c-cache", "a-cache", "b-cache")):
        (home / name).write_bytes(bytes(100))
        os.utime(home / name, (day, day))
    (home / "notes.txt").write_bytes(bytes(1000))
    port_jax.compilation_cache(home, limit=250)
    assert names() == ["a-cache", "b-cache"]
    port_jax.compilation_cache(home, limit=0)
    assert names() == ["a-cache", "b-cache"]
    monkeypatch.setattr(compilation, "_DAY", -1.0)
    port_jax.compilation_cache(home, limit=0)
    assert names() == []
    assert (home / "notes.txt").exists()
