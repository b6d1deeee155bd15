"""The optimizers' states in a file: wherever they are, and whatever they are called."""

from __future__ import annotations

from weights.errors import Usage
from weights.files import places


def found(root: object) -> dict[tuple, dict]:
    """The optimizers' states by their paths, in the file's order. What stands inside of one is not another."""
    states: dict[tuple, dict] = {}
    for path, value in places.within(root):
        inside = any(path[:n] in states for n in range(len(path)))
        if isinstance(value, dict) and isinstance(value.get("param_groups"), list) and isinstance(value.get("state"), dict) and not inside:
            states[path] = value
    return states


def chosen(states: dict[tuple, dict], said: str | None) -> tuple[tuple, dict | None]:
    """The only one, or the one at the place that was said; an empty path and None where there is none, or nobody chose among several."""
    by_place = {places.written(path): path for path in states}
    if said is not None:
        if said not in by_place:
            shown = ", ".join(by_place) or "none"
            raise Usage(f"the file has no optimizer at {said!r}; it has {shown}", "Correct --optimizer-at (optimizer_at=...)")
        return by_place[said], states[by_place[said]]
    return next(iter(states.items())) if len(states) == 1 else ((), None)


__all__ = ["chosen", "found"]
