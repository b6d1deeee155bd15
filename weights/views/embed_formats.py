"""Embeddings as files of other tools: csv, numpy, word2vec's text, TensorBoard's projector."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from weights.errors import Unmatched, printable
from weights.files.outputs import entry, new_directory, new_file, new_files, require_files, require_folder
from weights.views.embed import Embeddings

PROJECTOR = "projector_config.pbtxt"
_OURS = "# Written by hyperport.\n"


def require_free(form: str, out: str | Path, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> None:
    """Raises NotWritten where `write` would not write, and where it would write over one of the inputs."""
    inputs = list(inputs)
    if form == "tensorboard":
        require_folder(out, _is_ours, overwrite, ("vectors.tsv", "metadata.tsv", PROJECTOR), inputs)
        return
    require_files(_paths(form, Path(out)), overwrite, inputs)


def write(found: Embeddings, form: str, out: str | Path, overwrite: bool = False) -> list[Path]:
    """Writes one of `FORMATS`, whole or not at all, and returns the files.

    csv: a header name,x0,x1,...; then one row per node. A name that a spreadsheet would compute (=SUM(A1), for example) has an apostrophe
    before it, and so has a name of apostrophes and such: without its first apostrophe, each is as it was. npy: the array [N, d], and beside
    it `<out>.names.txt`, one name per line. word2vec: "N d", then one line per node with its name and numbers; blanks in names become
    underscores. tensorboard: a folder of vectors.tsv, metadata.tsv (with labels where a graph gave some) and projector_config.pbtxt.
    Numbers in text are the shortest that read back as the same ones in their type. Except in csv, control characters in names become
    escapes. Raises Unmatched if two names become one.
    """
    return FORMATS[form](found, Path(out), overwrite)


def numbers(points: np.ndarray) -> Iterable[list[str]]:
    """Rows as text: the shortest decimal that rounds to each number of its type."""
    wide = points if points.dtype in (np.float16, np.float32, np.float64) else points.astype(np.float32)
    for row in wide:
        yield [str(value) for value in row]


def _paths(form: str, out: Path) -> list[Path]:
    return [out, out.with_name(f"{out.name}.names.txt")] if form == "npy" else [out]


def _csv(found: Embeddings, out: Path, overwrite: bool) -> list[Path]:
    with new_file(out, overwrite) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(",".join(["name", *(f"x{i}" for i in range(found.points.shape[1]))]) + "\n")
        file.writelines(",".join([_cell(name), *row]) + "\n" for name, row in zip(found.names, numbers(found.points)))
    return [out]


def _npy(found: Embeddings, out: Path, overwrite: bool) -> list[Path]:
    paths, listed = _paths("npy", out), _one_line(found.names)
    with new_files(*paths, overwrite=overwrite) as (points, names):
        names.write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
        native = found.points.dtype.isbuiltin == 1
        with open(points, "wb") as file:
            np.save(file, found.points if native else found.points.astype(np.float32), allow_pickle=False)
    return paths


def _word2vec(found: Embeddings, out: Path, overwrite: bool) -> list[Path]:
    names = _unique(found.names, [printable("_".join(name.split())) or "_" for name in found.names])
    with new_file(out, overwrite) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write("{} {}\n".format(*found.points.shape))
        file.writelines(f"{name} {' '.join(row)}\n" for name, row in zip(names, numbers(found.points)))
    return [out]


def _tensorboard(found: Embeddings, out: Path, overwrite: bool) -> list[Path]:
    metadata = io.StringIO(newline="")
    names = _one_line(found.names)
    if found.labels is None:
        metadata.writelines(f"{name}\n" for name in names)  # one column has no header
    else:
        texts = found.label_names
        shown = [str(label) if texts is None else texts[label] for label in found.labels.tolist()]
        metadata.write("name\tlabel\n")
        metadata.writelines(f"{name}\t{label}\n" for name, label in zip(names, _one_line(shown)))
    with new_directory(out, _is_ours, overwrite, sign=PROJECTOR) as folder:
        with open(folder / "vectors.tsv", "w", newline="", encoding="utf-8") as file:
            file.writelines("\t".join(row) + "\n" for row in numbers(found.points))
        (folder / "metadata.tsv").write_text(metadata.getvalue(), encoding="utf-8", newline="")
        (folder / PROJECTOR).write_text(_OURS + 'embeddings {\n  tensor_name: "embeddings"\n  tensor_path: "vectors.tsv"\n'
                                        '  metadata_path: "metadata.tsv"\n}\n')  # fmt: skip
    return [out / name for name in ("vectors.tsv", "metadata.tsv", PROJECTOR)]


def _is_ours(folder: Path) -> bool:
    try:
        return entry(folder, PROJECTOR).read_text(errors="replace").startswith(_OURS)
    except OSError:
        return False


def _cell(name: str) -> str:
    """The name as a spreadsheet takes it for text. csv.writer would leave a carriage return without quotes, and csv.reader end the row."""
    if name.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r")):
        name = f"'{name}"
    if any(mark in name for mark in ',"\r\n'):
        return '"{}"'.format(name.replace('"', '""'))
    return name


def _one_line(names: Sequence[str]) -> list[str]:
    """Names without tabs and line ends, which separate columns and rows, and with other control characters as escapes."""
    return [printable(" ".join(name.splitlines()).replace("\t", " ")) for name in names]


def _unique(names: Sequence[str], written: list[str]) -> list[str]:
    first: dict[str, str] = {}
    for name, text in zip(names, written):
        if first.setdefault(text, name) != name:
            raise Unmatched(f"the names {first[text]!r} and {name!r} both become {text!r}", "Use --format csv, or give other --names")
    return written


FORMATS: dict[str, Callable[[Embeddings, Path, bool], list[Path]]] = {
    "csv": _csv,
    "npy": _npy,
    "word2vec": _word2vec,
    "tensorboard": _tensorboard,
}


__all__ = ["FORMATS", "numbers", "require_free", "write"]
