"""What several commands of the shell take: arguments, and groups of options that one declares once and names as one parameter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from port_jax.manifolds.base import Manifold
    from weights.mapping.port import Port

File = Annotated[Path, typer.Argument(help="A torch file, a .safetensors file, or an .index.json of shards.")]
Checkpoint = Annotated[
    Path,
    typer.Argument(
        help="A torch file, a .safetensors file, an index of shards, a checkpoint that convert wrote, or the folder of a run of fit."
    ),
]
Graph = Annotated[
    Path | None,
    typer.Option(
        help="For a model that computes its embeddings: an .npz file with edges [2, E] and features [N, F], or a torch file (FILE or "
        "FILE:PLACE) with a sparse adjacency and features beside it."
    ),
]
Arrays = Annotated[
    Path | None,
    typer.Option("--inputs", help="For a model that encodes arrays: an .npz file of them, by the names of its inputs (images, tokens)."),
]
Key = Annotated[str | None, typer.Option(help="torch's key of the parameter to use instead of the model's own table.")]
Names = Annotated[
    Path | None,
    typer.Option(help="A text file with one name per line; without it, the checkpoint's objects, the graph's names, or numbers."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists, or write into a folder with other files.")]

WRITE = "Write key=PoincareBall:0.7, key=Lorentz:1.0, key=Euclidean, or key=PoincareBall for the curvature in the file"


@dataclass(frozen=True)
class Reading:
    """What a command says of a torch file's model."""

    config: Annotated[Path | None, typer.Option(help="JSON file with the model's settings.")] = None
    arch: Annotated[
        str | None, typer.Option(help='Name of the architecture, if the keys do not identify it; "tree" converts any module.')
    ] = None
    curvature: Annotated[
        list[float] | None,
        typer.Option(
            help="Curvature, if neither the file nor the configuration contains it: one for all manifolds, or repeated, one for each."
        ),
    ] = None
    manifold: Annotated[
        list[str] | None,
        typer.Option(
            help="With --arch tree: key=PoincareBall:0.7, key=Lorentz (with the file's curvature), or '*.bias=Euclidean'. May be repeated."
        ),
    ] = None
    port: Annotated[
        str | None, typer.Option(help="A port of your own, in the place of --arch: package.module:NAME, found from the current folder.")
    ] = None
    section: Annotated[str | None, typer.Option(help="Where in the file the model is, if the file has several: ema, for example.")] = None
    prefix: Annotated[str | None, typer.Option(help="What the model's keys begin with, if others stand beside them: model., say.")] = None

    @property
    def said(self) -> dict[str, Any]:
        """The arguments of `weights.load`."""
        curvature = self.curvature or None
        return {
            "config": self.config,
            "arch": self.arch,
            "curvature": curvature[0] if curvature and len(curvature) == 1 else curvature,
            "manifolds": _manifolds(self.manifold) if self.manifold else None,
            "section": self.section,
            "prefix": self.prefix,
            "port": self.own_port,
        }

    @property
    def own_port(self) -> Port | None:
        """The port that is named."""
        from weights.port_names import imported

        return None if self.port is None else imported(self.port)

    @property
    def files(self) -> list[Path | None]:
        """The files that are read besides the checkpoint: the configuration, and the code of the port."""
        from weights.port_names import modules_of

        return [self.config, *([] if self.port is None else modules_of(self.port))]

    @property
    def given(self) -> list[str]:
        """The options that were used, as they are written."""
        return _used(self)


@dataclass(frozen=True)
class Resuming:
    """What a command says of a torch file's optimizer."""

    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Comma-separated keys or patterns of one optimizer group; repeated for each group, in order. "
            "PLACE=KEYS if the file has several optimizers: opt_h=emb,ball.c. Nothing ('') for a group without parameters."
        ),
    ] = None
    optimizer_at: Annotated[
        str | None, typer.Option(help="The only one of several optimizers to convert, by its place in the file: optimizer_states.0, say.")
    ] = None
    optimizer_class: Annotated[
        list[str] | None,
        typer.Option(
            help="Class of the optimizer, if its settings do not identify it: hgcn.RiemannianAdam, for example. "
            "PLACE=CLASS if the file has several."
        ),
    ] = None
    updates_per_step: Annotated[
        int | None, typer.Option(help="Updates between two steps of the scheduler: 1, or the number of batches in an epoch.", min=1)
    ] = None
    without_state: Annotated[
        str | None,
        typer.Option(
            help="What parameters are that have no state where others have: trained, if they only had no gradient so far, or fixed "
            "(assumed if not said)."
        ),
    ] = None

    @property
    def said(self) -> dict[str, Any]:
        """The arguments of `weights.load`, but for the class."""
        named = ("optimizer_at", "updates_per_step", "without_state")
        return {"groups": self._groups, **{name: getattr(self, name) for name in named}}

    @property
    def given(self) -> list[str]:
        """The options that were used, as they are written."""
        return _used(self)

    @property
    def named(self) -> str | dict[str, str] | None:
        """The class, or the classes by place."""
        places, classes = _placed("--optimizer-class", self.optimizer_class or [])
        if len(set(places)) < len(classes):
            raise _twice("--optimizer-class")
        return None if not classes else classes[0] if places[0] is None else dict(zip(map(str, places), classes))

    @property
    def _groups(self) -> list[list[str]] | dict[str, list[list[str]]] | None:
        places, texts = _placed("--group", self.group or [])
        groups = [text.split(",") if text else [] for text in texts]
        if not groups or places[0] is None:
            return groups or None
        return {str(place): [keys for at, keys in zip(places, groups) if at == place] for place in places}


@dataclass(frozen=True)
class Run:
    """What a command says of the folder of a run."""

    like: Annotated[
        Path | None,
        typer.Option(help="For the folder of a run of fit: the converted checkpoint or torch file that the run began with."),
    ] = None
    which: Annotated[
        str | None,
        typer.Option(help="For the folder of a run of fit: latest, best, or the number of a step that is kept. Default: latest."),
    ] = None

    @property
    def chosen(self) -> str | int:
        """The state, as `port_jax.training.restore` calls it."""
        from weights.errors import Usage

        if self.which is not None and self.which.isdecimal():
            return int(self.which)
        if self.which not in (None, "latest", "best"):
            raise Usage(f"--which is {self.which!r}", "Give latest, best or the number of a step")
        return self.which or "latest"

    @property
    def given(self) -> list[str]:
        """The options that were used, as they are written."""
        return _used(self)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are groups become the options of these groups, for the shell and for Python."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        types = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]))

    @functools.wraps(command)
    def called(**values: Any) -> None:
        made = {name: group(**{f.name: values.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**values, **made)

    called.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _used(options: Reading | Resuming | Run) -> list[str]:
    return [f"--{field.name.replace('_', '-')}" for field in fields(options) if getattr(options, field.name) not in (None, [])]


def _placed(option: str, texts: list[str]) -> tuple[list[str | None], list[str]]:
    """The places before the signs = and the texts after them; None for all where none has one."""
    from weights.errors import Usage

    parts = [text.rpartition("=") for text in texts]
    if len({bool(sign) for _, sign, _ in parts}) > 1:
        raise Usage(
            f"{option} names an optimizer's place in some of its uses, and none in others", f"Write {option} PLACE=... in all of them"
        )
    return [place if sign else None for place, sign, _ in parts], [rest for _, _, rest in parts]


def _twice(option: str) -> Exception:
    from weights.errors import Usage

    return Usage(f"{option} says two things of one optimizer", f"Give {option} once for each optimizer")


def _manifolds(texts: list[str]) -> dict[str, Manifold | type[Manifold]]:
    from weights.errors import Usage

    named = dict(map(_manifold, texts))
    if len(named) < len(texts):
        keys = [text.partition("=")[0] for text in texts]
        raise Usage(f"--manifold names {next(key for key in keys if keys.count(key) > 1)!r} twice", WRITE)
    return named


def _manifold(text: str) -> tuple[str, Manifold | type[Manifold]]:
    import port_jax.manifolds as manifolds
    from port_jax.manifolds.base import Manifold
    from weights.errors import Usage
    from weights.mapping.manifold_trees import CURVED, IN_PYTHON, PRODUCT

    key, _, kind = text.partition("=")
    name, _, value = kind.partition(":")
    cls = getattr(manifolds, name, None)
    if not key or not isinstance(cls, type) or not issubclass(cls, Manifold):
        raise Usage(f"--manifold {text!r} does not name a manifold", WRITE)
    if name == PRODUCT:
        raise Usage(f"--manifold {text!r}: a {name} has factors, which no option says", IN_PYTHON.replace("emb", key))
    try:
        if not value:
            return key, cls if cls.__name__ in CURVED else cls()
        return key, cls(*[float(value)])
    except (TypeError, ValueError) as error:
        raise Usage(f"--manifold {text!r}: {error}", WRITE) from None


__all__ = ["Checkpoint", "File", "Force", "Graph", "Json", "Key", "Names", "Reading", "Resuming", "Run", "grouped"]
