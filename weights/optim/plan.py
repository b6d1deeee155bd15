"""How a file's optimizer became a transformation: enough to build it again and to write its state back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from weights.errors import Unmatched, shown
from weights.files import places
from weights.optim.forms import plain
from weights.optim.layouts import WITHOUT
from weights.optim.several import together
from weights.types import Document, ManifoldTree, OptState, Params, Transformation

if TYPE_CHECKING:
    from port_jax.optim.from_torch.kinds import Kind
    from port_jax.optim.from_torch.translation import Translation

SAVE = f"Save optimizer.state_dict(), {WITHOUT}"
Manifolds = Callable[[Params], ManifoldTree] | None
"""A function from the parameters to the manifolds beside them; None where all are flat."""


@dataclass(frozen=True)
class Plan:
    """A translation of `port_jax.optim.from_torch` as a folder stores it, in JSON under these names, and where it came from."""

    table: str
    """The kind, a key of `port_jax.optim.from_torch.kinds.KINDS`."""
    dialects: list[str]
    """The dialect of each group."""
    keys: dict[int, str]
    """The file's key of each index."""
    listed: list[list[int]]
    """The indices of each group."""
    parts: list[list[str]]
    """The paths of each group's parameters that it moves."""
    extras: list[int]
    """What each update adds to the counts of each group beyond 1."""
    still: list[str] = field(default_factory=list)
    """Parameters that have no state where others have and were taken as fixed: they get no update."""
    guessed: bool = False
    """Whether they were so without being said to be."""
    source: str = ""
    """Where the keys of the indices were found, in words."""
    groups: list[Document] = field(default_factory=list)
    """The settings of each group, and what a scheduler keeps there."""
    axes: dict[str, int | list[int]] = field(default_factory=dict)
    """By path, the axis in JAX of torch's last axis, if it is not the last as well; or the axes that the optimizer sums over instead."""
    scheduler: Document | None = None
    """The state of the scheduler that the learning rates follow; None if they are constant."""
    per_step: int = 1
    """Updates between two steps of the scheduler."""
    ahead: int = 0
    """How many updates the schedules are ahead of the state's step."""
    timing: Document | None = None
    """What the report says of the file's scheduler; None without one."""
    carried: list[str] = field(default_factory=list)
    """The settings that no step reads, in words."""
    at: tuple = ()
    """Where in the file the optimizer is."""

    @property
    def place(self) -> str:
        """The same as a person writes it."""
        return places.written(self.at)

    @property
    def kind(self) -> Kind:
        """The row of the table of kinds."""
        from port_jax.optim.from_torch.kinds import kind_named

        return kind_named(self.table)

    @property
    def translation(self) -> Translation:
        """The translation that the plan stores."""
        from port_jax.optim.from_torch.dialects import Dialect, Tally
        from port_jax.optim.from_torch.sections import Section
        from port_jax.optim.from_torch.translation import translate

        tallies = [Tally(Dialect(dialect), {}, 0, extra) for dialect, extra in zip(self.dialects, self.extras, strict=True)]
        groups = self.groups[: len(self.parts)]  # a line search has one part, with the settings of the first group
        section = Section(groups, self.parts, [{} for _ in self.parts])
        made = translate(self.kind, section, tallies, self.scheduler, per_step=self.per_step, last_axes=self.axes)
        return made._replace(ahead=self.ahead)


@dataclass(frozen=True)
class Choice:
    """What is known of an optimizer's class before its numbers are looked at.

    said: its name in the configuration. code: the model's code base. name: the kind, if the caller gives it.
    """

    said: str | None
    code: str | None
    name: str | None


def chosen(said: object, code: str | None, name: str | None) -> Choice:
    """The choice. said: the configuration's name of the optimizer, or {"name": ...}."""
    said = said.get("name") if isinstance(said, Mapping) else said
    return Choice(said if isinstance(said, str) else None, code, name)


def groups_of(raw: Mapping) -> list[Document]:
    """The groups of an optimizer's section. Raises Unmatched if they, or the states of parameters, are not dictionaries."""
    groups = raw["param_groups"]
    if not groups or not all(isinstance(group, dict) for group in groups):
        raise Unmatched("the optimizer has no groups of settings", SAVE)
    if not isinstance(raw["state"], dict):
        raise Unmatched(f"the optimizer's state is damaged: it is {shown(raw['state'])}, no dictionary by index", SAVE)
    for index, state in raw["state"].items():
        if not isinstance(state, dict):
            raise Unmatched(f"the optimizer's state of index {shown(index)} is {shown(state)}", SAVE)
    return groups


def build(plans: Sequence[Plan], params: Params, manifolds: Manifolds, confine: Callable[[Params], Params] | None = None
          ) -> tuple[Transformation, OptState]:  # fmt: skip
    """The transformation of plans, and the shapes of its state. confine: as `together` takes it."""
    import jax

    transformation = together({plan.place: plan.translation.transformation(params, manifolds) for plan in plans}, confine)
    return transformation, jax.eval_shape(transformation.init, params)


def begun(state: Mapping[str, object] | None) -> bool:
    """Whether a parameter has been trained: torch's Adagrad keeps a state of every one from the start."""
    from port_jax.optim.from_torch.kinds import trained

    state = state if isinstance(state, Mapping) else {}
    return trained(state, plain(state.get("step", 0)))


__all__ = ["Choice", "Manifolds", "Plan", "begun", "build", "chosen", "groups_of"]
