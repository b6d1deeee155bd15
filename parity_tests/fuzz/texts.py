"""JSON with its structure changed: headers of safetensors, indices of shards, configurations, and the documents of converted files."""

from __future__ import annotations

import copy
import json
from typing import Any

from parity_tests.fuzz.draw import TEXTS, Random, below, chance, one_of, plain


class Pairs(list):
    """The keys and values of an object, in which a key may stand twice."""


class Raw(str):
    """Text that stands in JSON as it is."""


RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "-0",
    "1e999",
    "1E400",
    "01",
    "1" * 50,
    "0." + "1" * 5000,
    "1" * 5000,
    "nul",
    "[",
    "]",
    "{",
    "}",
    ",",
    '"',
    "\0",
    "[" * 300 + "]" * 300,
    '{"a":' * 300 + "1" + "}" * 300,
    '"\\ud800"',
    '"\\u0000"',
    "'a'",
    "// x",
)


def paired(value: Any) -> Any:
    """The value with `Pairs` in place of its dicts."""
    if isinstance(value, dict):
        return Pairs([key, paired(item)] for key, item in value.items())
    return [paired(item) for item in value] if isinstance(value, list) else value


def written(value: Any) -> str:
    """JSON of what `paired` gave."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{written(key)}:{written(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return written(paired(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value)


def repeats(value: Any) -> bool:
    """Whether an object in what `paired` gave has a key twice."""
    if isinstance(value, Pairs):
        keys = [pair[0] for pair in value]
        return any(key in keys[:n] for n, key in enumerate(keys)) or any(repeats(pair[1]) for pair in value)
    return isinstance(value, list) and any(map(repeats, value))


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where values stand in what `paired` gave, the keys included."""
    found = [path]
    if isinstance(value, Pairs):
        for n, (_, item) in enumerate(value):
            found += places(item, (*path, n, 1))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            found += places(item, (*path, n))
    return found


def changed(random: Random, value: Any, times: int = 1) -> tuple[Any, str]:
    """What `paired` gave with one or several places changed, and what was done."""
    value, said = copy.deepcopy(value), []
    for _ in range(times):
        *above, last = [*one_of(random, places(value)[1:] or [(0,)])]
        holder = value
        for step in above:
            holder = holder[step]
        if not isinstance(holder, list) or not len(holder) > last:
            continue
        pair = len(above) > 0 and last == 1 and isinstance(_at(value, above[:-1]), Pairs)
        owner, index = (_at(value, above[:-1]), above[-1]) if pair else (holder, last)
        kind = below(random, 8)
        if kind == 0:
            del owner[index]
        elif kind == 1:
            owner.insert(below(random, len(owner) + 1), copy.deepcopy(owner[index]))
        elif kind == 2 and pair:
            holder[0] = one_of(random, TEXTS)
        elif kind == 3 and pair:
            owner.insert(below(random, len(owner) + 1), [one_of(random, (holder[0], *TEXTS)), paired(plain(random))])
        elif kind == 4:
            other = _at(value, one_of(random, places(value)))
            holder[last] = copy.deepcopy(other)
        elif kind == 5:
            holder[last] = one_of(random, ([holder[last]], Pairs([["a", holder[last]]]), str(holder[last])))
        elif kind == 6 and isinstance(holder[last], int) and not isinstance(holder[last], bool):
            holder[last] += one_of(random, (1, -1, 4, 1 << 20, 1 << 40, 1 << 62, -holder[last], -2 * holder[last]))
        else:
            holder[last] = Raw(one_of(random, RAW)) if chance(random, 0.15) else paired(plain(random))
        said.append(f"change {kind} at {[*above, last]}")
    return value, "; ".join(said)


def _at(value: Any, path: Any) -> Any:
    for step in path:
        value = value[step]
    return value


def respelled(random: Random, value: Any) -> str:
    """The same JSON otherwise: escapes in texts, spaces."""
    text = json.dumps(value, indent=one_of(random, (None, 1, 4)), ensure_ascii=chance(random, 0.5))
    return text + " " * below(random, 9)
