"""The shell: one function for each command of hyperport. Heavy imports wait inside them, so that --help is quick."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from port_jax.manifolds.base import Manifold as AnyManifold
    from weights.checkpoint import Checkpoint as LoadedCheckpoint
    from weights.types import Document, Progress

CODES = """Exit codes: 0 done. 1 verification failed, or the files of diff differ. 2 usage: an option is missing or contradicts another.
3 unreadable: not a checkpoint, or damaged. 4 refused: the file asks for code to be run, or claims sizes that it does not have.
5 unmatched: keys, shapes, curvature or optimizer do not fit the model. 6 not written. Nothing is written unless everything succeeded."""

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, epilog=CODES,
                  help="Checkpoints of hyperbolic models between PyTorch and JAX.", pretty_exceptions_enable=False)  # fmt: skip

File = Annotated[Path, typer.Argument(help="A torch file, a .safetensors file, or an .index.json of shards.")]
Config = Annotated[Path | None, typer.Option(help="JSON file with the model's settings.")]
Arch = Annotated[str | None, typer.Option(help='Name of the architecture, if the keys do not identify it; "tree" converts any module.')]
Curvature = Annotated[
    list[float] | None,
    typer.Option(
        help="Curvature, if neither the file nor the configuration contains it: one for all manifolds, or repeated, one for each."
    ),
]
Manifolds = Annotated[
    list[str] | None,
    typer.Option("--manifold", help="With --arch tree: key=PoincareBall:0.7, key=Lorentz:1.0 or key=Euclidean. May be repeated."),
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", help="Comma-separated keys or patterns of one optimizer group; repeated for each group, in order."),
]
OptimizerClass = Annotated[
    str | None, typer.Option(help="Class of the optimizer, if its settings do not identify it: hgcn.RiemannianAdam, for example.")
]
UpdatesPerStep = Annotated[
    int | None, typer.Option(help="Updates between two steps of the scheduler: 1, or the number of batches in an epoch.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists, or write into a folder with other files.")]


Checkpoint = Annotated[
    Path, typer.Argument(help="A torch file, a .safetensors file, an index of shards, or a checkpoint that convert wrote.")
]
Graph = Annotated[
    Path | None, typer.Option(help="An .npz file with edges [2, E] and features [N, F], for a model that computes its embeddings.")
]
Key = Annotated[str | None, typer.Option(help="torch's key of the parameter to use instead of the model's own table.")]
Names = Annotated[
    Path | None,
    typer.Option(help="A text file with one name per line; without it, the checkpoint's objects, the graph's names, or numbers."),
]


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
) -> None:
    """The options that stand before a command."""


@app.command(epilog="Example: hyperport inspect model.pth")
def inspect(file: File, config: Config = None, arch: Arch = None, curvature: Curvature = None, manifold: Manifolds = None,
            group: Groups = None, as_json: Json = False) -> None:  # fmt: skip
    """Show keys, shapes, types and what each tensor would become; architecture, curvature and optimizer. Writes nothing."""
    from weights.views.inspect import inspect as look
    from weights.views.inspect import show

    found = look(file, **_options(config, arch, curvature, manifold, group))
    _print_json(found) if as_json else show(found)


@app.command(epilog="Example: hyperport convert model.pth --config config.json --out converted/")
def convert(
    file: File,
    out: Annotated[Path, typer.Option(help="Folder to write (Orbax and JSON), or a file that ends in .safetensors or .npz.")],
    config: Config = None,
    arch: Arch = None,
    curvature: Curvature = None,
    manifold: Manifolds = None,
    group: Groups = None,
    optimizer: Annotated[bool, typer.Option(help="Convert the optimizer's state.")] = True,
    optimizer_class: OptimizerClass = None,
    updates_per_step: UpdatesPerStep = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Convert a torch checkpoint, optimizer state included, to a folder or file that weights.restore reads."""
    from weights.checkpoint import load
    from weights.store import require_free
    from weights.views.inspect import show_converted

    require_free(out, force, (file, config))
    with _progress("converting") as advance:
        checkpoint = load(
            file,
            optimizer=(optimizer_class or True) if optimizer else False,
            updates_per_step=updates_per_step,
            progress=advance,
            **_options(config, arch, curvature, manifold, group),
        )
        checkpoint.save(out, force)
    _print_json(checkpoint.report) if as_json else show_converted(checkpoint, out)


@app.command(epilog="Example: hyperport export converted/ back.pth")
def export(
    folder: Annotated[Path, typer.Argument(help="Folder or file that convert wrote.")],
    file: Annotated[Path, typer.Argument(help="Torch file to write.")],
    force: Force = False,
) -> None:
    """Write a converted checkpoint as the torch file that it came from, with its present numbers; unchanged tensors bit for bit."""
    from weights.checkpoint import export as write
    from weights.files.outputs import require_file

    require_file(file, force, (folder,))
    write(folder, file, force)
    typer.echo(f"{file}: {file.stat().st_size} bytes")


@app.command(epilog="Example: hyperport verify model.pth --config config.json --converted converted/ --graph graph.npz")
def verify(
    file: File,
    config: Config = None,
    arch: Arch = None,
    curvature: Curvature = None,
    manifold: Manifolds = None,
    group: Groups = None,
    optimizer_class: OptimizerClass = None,
    updates_per_step: UpdatesPerStep = None,
    converted: Annotated[Path | None, typer.Option(help="Converted checkpoint to compare, instead of converting the file again.")] = None,
    graph: Annotated[Path | None, typer.Option(help=".npz with edges [2, E] and features [N, F]; without it, a random graph.")] = None,
    witness: Annotated[
        Path | None, typer.Option(help=".npz that your own program recorded (hyperport recorder); needs no torch unless --level is given.")
    ] = None,
    level: Annotated[
        Level | None,
        typer.Option(help="How far to go; each level includes those before it. Default: step, or settings with --witness."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs and cotangents.")] = 0,
    report: Annotated[Path | None, typer.Option(help="JSON file to write the comparisons to, with versions.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare torch and JAX on this checkpoint: bits, settings, forward pass, gradients, and the next 10 optimizer steps.

    The file is read anew, with the configuration and options of this command; the torch side is built from that, never from the
    conversion. Needs torch from the level forward on.
    """
    from weights.checkpoint import load, restore
    from weights.files.outputs import new_file, require_file
    from weights.proof.reading import Said
    from weights.proof.verify import failed, show, summary, versions
    from weights.proof.verify import verify as compare
    from weights.proof.witness import Witness

    if report:
        require_file(report, force, (file, config, converted, graph, witness))
    depth = level or (Level.step if witness is None else Level.settings)
    said = {**_options(config, arch, curvature, manifold, group), "updates_per_step": updates_per_step}
    checkpoint = restore(converted) if converted else load(file, **said, optimizer=optimizer_class or True)
    recorded = None if witness is None else Witness.read(witness, checkpoint)
    asked = Said(**said, optimizer=optimizer_class)
    rows = compare(checkpoint, file, graph, said=asked, witness=recorded, level=depth.value, seed=seed)
    if as_json:
        _print_json([row._asdict() for row in rows])
    else:
        show(rows)
    if report:
        document = {"versions": versions(), "rows": [row._asdict() for row in rows], "summary": summary(rows)}
        with new_file(report, force) as temporary:
            temporary.write_text(json.dumps(document, indent=1))
    if failed(rows):
        raise typer.Exit(1)


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
def embed(
    file: Checkpoint,
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
    names: Names = None,
    key: Key = None,
    config: Config = None,
    arch: Arch = None,
    curvature: Curvature = None,
    manifold: Manifolds = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write node embeddings with their names: the trained table, or the output of the encoder on --graph."""
    from weights.views.embed import described, embeddings
    from weights.views.embed_formats import require_free, write

    require_free(form.value, out, force, (file, graph, names, config))
    checkpoint = _checkpoint(file, config, arch, curvature, manifold)
    found = embeddings(checkpoint, key=key, graph=graph, names=names, space=space.value)
    facts = {"files": [str(path) for path in write(found, form.value, out, force)], **described(found)}
    _print_json(facts) if as_json else _print_facts(facts)


@app.command(epilog="Example: hyperport plot model.pth --config config.json --graph airport.npz --out disk.png")
def plot(file: Checkpoint, out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")],
         graph: Graph = None, names: Names = None, key: Key = None, config: Config = None, arch: Arch = None, curvature: Curvature = None,
         manifold: Manifolds = None, count: Annotated[int, typer.Option("--label", help="Number of names to draw.", min=0)] = 12,
         force: Force = False, as_json: Json = False) -> None:  # fmt: skip
    """Draw node embeddings on the Poincare disk; edges and label colours with --graph.

    More than two dimensions are reduced to the two along which the points spread most, seen from their midpoint.
    """
    from weights.files.outputs import require_file
    from weights.views.disk_picture import plot as draw
    from weights.views.embed import described, embeddings

    require_file(out, force, (file, graph, names, config))
    checkpoint = _checkpoint(file, config, arch, curvature, manifold)
    found = embeddings(checkpoint, key=key, graph=graph, names=names)
    facts = {"files": [str(out)], "drawn": draw(found, out, names=count, overwrite=force).how, **described(found)}
    _print_json(facts) if as_json else _print_facts(facts)


def _checkpoint(
    file: Path, config: Path | None, arch: str | None, curvature: list[float] | None, manifold: list[str] | None
) -> LoadedCheckpoint:
    """A checkpoint without its optimizer, from a torch file or from what convert wrote."""
    from weights.checkpoint import load, restore
    from weights.errors import Usage
    from weights.store import form_of

    if form_of(file) is None:
        return load(file, optimizer=False, **_options(config, arch, curvature, manifold, None))
    if any(value for value in (config, arch, curvature, manifold)):
        raise Usage("a converted checkpoint already contains its settings", "Omit --config, --arch, --curvature and --manifold", path=file)
    return restore(file)


def _options(
    config: Path | None,
    arch: str | None,
    curvature: list[float] | None,
    manifold: list[str] | None,
    group: list[str] | None,
) -> dict[str, Any]:
    return {
        "config": config,
        "arch": arch,
        "curvature": None if not curvature else curvature[0] if len(curvature) == 1 else curvature,
        "manifolds": None if not manifold else dict(_manifold(text) for text in manifold),
        "groups": None if not group else [entry.split(",") for entry in group],
    }


def _manifold(text: str) -> tuple[str, AnyManifold]:
    import port_jax.manifolds as manifolds
    from port_jax.manifolds.base import Manifold
    from weights.errors import Usage

    key, _, kind = text.partition("=")
    name, _, value = kind.partition(":")
    cls = getattr(manifolds, name, None)
    if not key or not isinstance(cls, type) or not issubclass(cls, Manifold):
        raise Usage(f"--manifold {text!r} does not name a manifold", "Write key=PoincareBall:0.7, key=Lorentz:1.0 or key=Euclidean")
    try:
        return key, cls(*([float(value)] if value else []))
    except (TypeError, ValueError) as error:
        raise Usage(f"--manifold {text!r}: {error}", "Write key=PoincareBall:0.7, key=Lorentz:1.0 or key=Euclidean") from None


class _progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, what: str):
        self.what, self.bar = what, None

    def __enter__(self) -> Progress | None:
        if not sys.stderr.isatty():
            return None
        from tqdm import tqdm

        self.bar = tqdm(desc=self.what, unit="tensor", leave=False, disable=None)

        def advance(key: str, done: int, total: int) -> None:
            assert self.bar is not None
            self.bar.total = total
            self.bar.update(1)

        return advance

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def _print_facts(facts: Document) -> None:
    for name, value in facts.items():
        if value:
            typer.echo(f"{name}: {', '.join(value) if isinstance(value, list) else value}")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=1, default=str))


def main() -> None:
    """The entry point: an error is one line with its remedy and its exit code."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_ENABLE_X64", "1")  # float64 files stay float64
    os.environ.setdefault("PYTORCH_JIT", "0")  # geoopt's scripted gradients differ between the first call and later ones
    from weights.errors import ConversionError

    try:
        app()
    except ConversionError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("error: interrupted; nothing was written", err=True)
        sys.exit(130)


__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
