"""The shell: one function for each command of hyperport. Heavy imports wait inside them, so that --help is quick."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weights.options import Arrays, Checkpoint, File, Force, Graph, Json, Key, Names, Reading, Resuming, Run, grouped

if TYPE_CHECKING:
    from weights.types import Document

CODES = """Exit codes: 0 done. 1 verification failed, or the files of diff differ. 2 usage: an option is missing or contradicts another.
3 unreadable: not a checkpoint, or damaged. 4 refused: the file asks for code to be run, or claims sizes that it does not have.
5 unmatched: keys, shapes, curvature or optimizer do not fit the model. 6 not written. 7 an error that was not foreseen: please report it.
Nothing is written unless everything succeeded."""
UNFORESEEN = 7

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, epilog=CODES,
                  help="Checkpoints of hyperbolic models between PyTorch and JAX.", pretty_exceptions_enable=False)  # fmt: skip


class Format(StrEnum):
    """What `embed` writes."""

    csv = "csv"
    npy = "npy"
    word2vec = "word2vec"
    tensorboard = "tensorboard"


class Space(StrEnum):
    """Points on the manifold, or their log_0 in the tangent space at the origin."""

    manifold = "manifold"
    tangent = "tangent"


class Level(StrEnum):
    """How far `verify` goes; each level includes those before it."""

    bits = "bits"
    settings = "settings"
    forward = "forward"
    grad = "grad"
    step = "step"


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"hyperport {version('hyperport')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error that was not foreseen arose.")] = False,
) -> None:
    """The options that stand before a command."""


@app.command(epilog="Example: hyperport inspect model.pth")
@grouped
def inspect(file: Checkpoint, reading: Reading, resuming: Resuming, run: Run, as_json: Json = False) -> None:
    """Show keys, shapes, types and what each tensor would become; architecture, curvature and optimizer. Writes nothing.

    Of the folder of a run of fit: the steps that are kept, the last evaluation, and the arrays of one state.
    """
    from weights import given, training_run
    from weights.views.inspect import inspect as look
    from weights.views.inspect import show, show_run

    if training_run.is_run(file):
        found = training_run.described(file, run.chosen)
        if run.like or reading.arch:
            found["arch"] = given.checkpoint(file, reading, run).arch
        _print_json(found) if as_json else show_run(found)
        return
    given.require_no_run(file, run)
    found = look(file, **reading.said, **resuming.said, optimizer=resuming.named or True)
    _print_json(found) if as_json else show(found)


@app.command(epilog="Example: hyperport convert model.pth --config config.json --out converted/")
@grouped
def convert(
    file: File,
    reading: Reading,
    resuming: Resuming,
    out: Annotated[Path, typer.Option(help="Folder to write (Orbax and JSON), or a file that ends in .safetensors or .npz.")],
    optimizer: Annotated[bool, typer.Option(help="Convert the optimizer's state.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a file where something is not converted, or assumed.")] = False,
    source: Annotated[str | None, typer.Option(help="Where the file comes from, for report.json: an address, for example.")] = None,
    licence: Annotated[str | None, typer.Option(help="The file's licence, for report.json.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Convert a torch checkpoint, optimizer state included, to a folder or file that weights.restore reads."""
    from weights.checkpoint import load
    from weights.errors import Unmatched
    from weights.files.reader import files_of
    from weights.store import require_free
    from weights.views.inspect import show_converted
    from weights.views.progress import progress

    require_free(out, force, files_of(file, *reading.files))
    with progress("converting") as advance:
        asked = (resuming.named or True) if optimizer else False
        about = {name: text for name, text in (("source", source), ("licence", licence)) if text}
        checkpoint = load(file, **reading.said, **resuming.said, optimizer=asked, about=about, progress=advance)
        if strict and (left := {**checkpoint.report["not_converted"], **checkpoint.report.get("assumed", {})}):
            words = ", ".join(f"{place} ({why})" for place, why in left.items())
            what = "not everything would be converted" if checkpoint.report["not_converted"] else "something would be assumed"
            raise Unmatched(f"{what}: {words}", "Convert without --strict", path=file)
        checkpoint.save(out, force)
    _print_json(checkpoint.report) if as_json else show_converted(checkpoint, out)


@app.command(epilog="Example: hyperport export converted/ back.pth")
@grouped
def export(
    folder: Annotated[Path, typer.Argument(help="Folder or file that convert wrote, or the folder of a run of fit.")],
    file: Annotated[Path, typer.Argument(help="Torch file to write; .safetensors for a file of nothing but tensors.")],
    reading: Reading,
    resuming: Resuming,
    run: Run,
    optimizer: Annotated[bool, typer.Option(help="Write the optimizer's state of the run; else the file keeps that of --like.")] = True,
    made_with: Annotated[
        Path | None,
        typer.Option(
            help="For a model made in JAX, or a --like without an optimizer: a JSON file with that of the run, "
            '{"name": "RiemannianAdam", "lr": 0.01}.'
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a converted checkpoint as the torch file that it came from, with its present numbers; unchanged tensors bit for bit.

    The state of a run of fit is written as the torch file of --like, the checkpoint that the run began with; a model that was made in JAX,
    as the file that the torch reference of --arch with the settings in --config saves.
    """
    from weights import given
    from weights.files.outputs import require_file
    from weights.files.reader import files_of

    require_file(file, force, files_of(folder, run.like, *reading.files, made_with))
    checkpoint = given.exported(folder, reading, resuming, run, optimizer, made_with)
    checkpoint.export(file, force)
    _say(f"{file}: {file.stat().st_size} bytes")
    if told := checkpoint.report.get("run"):
        left = told["left_out"]
        few = left[:4] + [f"{len(left) - 4} more arrays"] * (len(left) > 4)
        _print_facts({"step": told["step"], "left out": few, "left out because": told.get("because")})


@app.command(epilog="Example: hyperport verify model.pth --config config.json --converted converted/ --graph graph.npz")
@grouped
def verify(
    file: File,
    reading: Reading,
    resuming: Resuming,
    converted: Annotated[Path | None, typer.Option(help="Converted checkpoint to compare, instead of converting the file again.")] = None,
    graph: Annotated[
        Path | None,
        typer.Option(help=".npz with edges [2, E] and features [N, F], or a torch file with a sparse adjacency; else a random graph."),
    ] = None,
    witness: Annotated[
        Path | None, typer.Option(help=".npz that your own program recorded (hyperport recorder); needs no torch unless --level is given.")
    ] = None,
    level: Annotated[
        Level | None,
        typer.Option(help="How far to go; each level includes those before it. Default: step, or settings with --witness."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs and cotangents.", min=0, max=2**32 - 1)] = 0,
    html: Annotated[
        Path | None, typer.Option(help="Page to write (.html), with its JSON beside it: it opens in a browser without a network.")
    ] = None,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="With --port: plant errors in the port, and show which these inputs miss and what shows them.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="JSON file to write the comparisons to, with versions.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare torch and JAX on this checkpoint: bits, settings, forward pass, gradients, and the next 10 optimizer steps.

    The file is read anew, with the configuration and options of this command; the torch side is built from that, never from the
    conversion. Needs torch from the level forward on.
    """
    from weights.checkpoint import load, restore
    from weights.errors import Usage
    from weights.files.graph_arrays import file_of
    from weights.files.outputs import require_files
    from weights.files.reader import files_of
    from weights.proof import report_page
    from weights.proof.parity import explained, first_and_cause, show_planted
    from weights.proof.reading import Said
    from weights.proof.report import of_checkpoint
    from weights.proof.verify import failed, show
    from weights.proof.verify import verify as compare
    from weights.proof.witness import Witness

    if mutants and (as_json or reading.port is None):
        raise Usage("--mutants prints lines on a port of your own", "Leave out --json" if as_json else "Give --port")
    require_files(report_page.paths(html, report), force, files_of(file, *reading.files, converted, graph and file_of(graph), witness))
    depth = level or (Level.step if witness is None else Level.settings)
    said = {**reading.said, **resuming.said}
    checkpoint = restore(converted, said["port"]) if converted else load(file, **said, optimizer=resuming.named or True)
    recorded = None if witness is None else Witness.read(witness, checkpoint)
    asked = Said(**said, optimizer=resuming.named)
    rows = compare(checkpoint, file, graph, said=asked, witness=recorded, level=depth.value, seed=seed)
    if as_json:
        _print_json([row.told() for row in rows])
    else:
        show(rows)
    lines = (
        [*explained(*first_and_cause(checkpoint, rows, seed), rows)]
        if failed(rows) and checkpoint.own_port and (html or report or not as_json)
        else []
    )
    if mutants:
        show_planted(checkpoint, seed)
    if html or report:
        found = of_checkpoint(checkpoint, file, rows, lines, graph=graph, witness=witness, level=depth.value, seed=seed)
        report_page.write(found, html=html, data=report, overwrite=force)
    if failed(rows):
        for line in [] if as_json else lines:
            _say(line)
        raise typer.Exit(1)


@app.command(epilog="Example: hyperport scaffold model.pth --out myport.py")
def scaffold(
    file: File,
    out: Annotated[Path, typer.Option(help="Python file to write.")],
    section: Annotated[str | None, typer.Option(help="Where in the file the model is, if the file has several: ema, for example.")] = None,
    prefix: Annotated[str | None, typer.Option(help="What the model's keys begin with, if others stand beside them.")] = None,
    force: Force = False,
) -> None:
    """Write the first version of a port for a model of your own: rules, a flax module to fill in, and a test of what is left to do."""
    from weights.views.scaffold import scaffold as begin

    text = begin(file, out, force, section, prefix)
    lines = text.splitlines()
    todo, guesses = (sum(mark in line for line in lines) for mark in ("# TODO", "GUESS"))
    _say(f"{out}: {len(lines)} lines, {todo} places to fill in and {guesses} guesses to check: python {out} lists them")
    _say(f"then: hyperport inspect {file} --port {out.stem}:PORT")


@app.command(epilog="Example: hyperport recorder > record_witness.py")
def recorder() -> None:
    """Print a script that records what your own torch program computes, for verify --witness. It needs only torch and numpy."""
    from weights.proof.witness import script

    typer.echo(script(), nl=False)


@app.command(epilog="Example: hyperport diff model.pth back.pth")
def diff(a: Annotated[Path, typer.Argument(help="A torch file, a .safetensors file, or a checkpoint that convert wrote.")],
         b: Annotated[Path, typer.Argument(help="Another one.")], as_json: Json = False) -> None:  # fmt: skip
    """Compare two checkpoints of any kind, tensor by tensor, under torch's keys."""
    from weights.proof.diff import compare, show

    rows = compare(a, b)
    _print_json([row._asdict() for row in rows]) if as_json else show(rows)
    if any(not row.equal for row in rows):
        raise typer.Exit(1)


@app.command(epilog="Example: hyperport embed nouns.pth --config config.json --format tensorboard --out projector/")
@grouped
def embed(
    file: Checkpoint,
    reading: Reading,
    run: Run,
    out: Annotated[Path, typer.Option(help="File to write; a folder for tensorboard.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="csv: name,x0,x1,... npy: an array and <out>.names.txt. word2vec: its "
            "text format. tensorboard: vectors.tsv, metadata.tsv, projector_config.pbtxt.",
        ),
    ] = Format.csv,
    space: Annotated[Space, typer.Option(help="Points on their manifold, or their logarithms at its origin.")] = Space.manifold,
    graph: Graph = None,
    inputs: Arrays = None,
    names: Names = None,
    key: Key = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write embeddings with their names: the trained table, or the output of the encoder on --graph or --inputs."""
    from weights import given
    from weights.files.graph_arrays import file_of
    from weights.files.reader import files_of
    from weights.views.embed import described, embeddings
    from weights.views.embed_formats import require_free, write

    require_free(form.value, out, force, files_of(file, graph and file_of(graph), inputs, names, *reading.files, run.like))
    checkpoint = given.checkpoint(file, reading, run)
    found = embeddings(checkpoint, key=key, graph=graph, names=names, space=space.value, inputs=inputs)
    facts = {"files": [str(path) for path in write(found, form.value, out, force)], **described(found)}
    _print_json(facts) if as_json else _print_facts(facts)


@app.command(epilog="Example: hyperport plot model.pth --config config.json --graph airport.npz --out disk.png")
@grouped
def plot(
    file: Checkpoint,
    reading: Reading,
    run: Run,
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")],
    graph: Graph = None,
    inputs: Arrays = None,
    names: Names = None,
    key: Key = None,
    count: Annotated[int, typer.Option("--label", help="Number of names to draw.", min=0)] = 12,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw node embeddings on the Poincare disk; edges and label colours with --graph.

    More than two dimensions are reduced to the two along which the points spread most, seen from their midpoint.
    """
    from weights import given
    from weights.files.graph_arrays import file_of
    from weights.files.outputs import require_file
    from weights.files.reader import files_of
    from weights.views.disk_picture import plot as draw
    from weights.views.embed import described, embeddings

    require_file(out, force, files_of(file, graph and file_of(graph), inputs, names, *reading.files, run.like))
    checkpoint = given.checkpoint(file, reading, run)
    found = embeddings(checkpoint, key=key, graph=graph, names=names, inputs=inputs)
    facts = {"files": [str(out)], "drawn": draw(found, out, names=count, overwrite=force).how, **described(found)}
    _print_json(facts) if as_json else _print_facts(facts)


def _print_facts(facts: Document) -> None:
    for name, value in facts.items():
        if value:
            _say(f"{name}: {', '.join(value) if isinstance(value, list) else value}")


def _say(line: str, err: bool = False) -> None:
    """Prints a line. A path or a name in it may contain control characters, and bytes that are no text: they become escapes."""
    from weights.errors import printable

    typer.echo(printable(line), err=err)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=1, default=str))


def main() -> None:
    """The entry point: an error is one line with its remedy and its exit code."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_ENABLE_X64", "1")  # float64 files stay float64
    os.environ.setdefault("PYTORCH_JIT", "0")  # geoopt's scripted gradients differ between the first call and later ones
    from port_jax.compilation import cache_variables
    from weights.errors import ConversionError

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        os.environ.update(cache_variables())
    try:
        app()
    except ConversionError as error:
        _say(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # as a program that SIGPIPE ends
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.300}"
        _say(f"error: this was not foreseen ({what}). Run the command with hyperport --debug and report what it shows", err=True)
        sys.exit(UNFORESEEN)
    except KeyboardInterrupt:
        _say("error: interrupted; nothing was written", err=True)
        sys.exit(130)


__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
