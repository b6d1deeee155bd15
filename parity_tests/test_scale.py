"""docs/scale.md shows what benchmarks/scale.json contains, and its figures meet their goals; collectives are read as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale, scale_graphs
from benchmarks.collectives import Collective, collectives

PROGRAM = """HloModule jit_step, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%body.1 (p: (f32[8,3], s32[])) -> (f32[8,3], s32[]) {
  %all-to-all.2 = (bf16[1,5]{1,0}, bf16[1,5]{1,0}) all-to-all(%a, %b), channel_id=1, replica_groups={{0,1}}
}

%cond.1 (p: (f32[8,3], s32[])) -> pred[] {
  %all-reduce.9 = s32[4]{0} all-reduce(%c), to_apply=%add
}

%unused (p: f32[8]) -> f32[8] {
  %all-gather.7 = f32[64]{0} all-gather(%p), dimensions={0}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %all-to-all.1 = f64[2,7,3]{2,1,0} all-to-all(%x), channel_id=1
  %all-reduce-start = f32[] all-reduce-start(%y), to_apply=%add
  %all-reduce-done = f32[] all-reduce-done(%all-reduce-start)
  %while.1 = (f32[8,3], s32[]) while(%t), condition=%cond.1, body=%body.1
}
"""


def test_the_page_shows_the_results():
    assert scale.between() == scale.section(scale.load())
    assert Path(scale.PAGE.with_suffix(".svg")).exists()


def test_the_results_meet_their_goals():
    results = scale.load()
    assert [(row["batch"], row["devices"]) for row in results["rows"]] == [(kind, n) for kind in scale.LINES for n in scale.DEVICES]
    kinds = [(row["graph"], row["devices"]) for row in results["graphs"]]
    assert kinds == [(kind, n) for kind in scale_graphs.GRAPHS for n in scale_graphs.DEVICES]
    assert all(scale.all_goals(results).values()), scale.all_goals(results)


@pytest.mark.parametrize(("name", "value"), [("ulps", 5), ("bytes", 10**9), ("temporaries", 10**9), ("rounds", 2.0), ("arguments", 1)])
def test_a_figure_that_misses_its_goal_is_seen(name: str, value: float):
    rows = [dict(row) for row in scale.load()["rows"]]
    rows[-1][name] = value
    assert not all(scale.goals(rows).values())


def test_padding_of_a_ring_is_seen():
    rows = [dict(row) for row in scale.load()["graphs"]]
    next(row for row in rows if (row["graph"], row["devices"]) == ("ring", 8))["sent"] = 97
    assert not all(scale_graphs.goals(rows).values())


def test_collectives_are_counted_once_and_loops_are_marked():
    assert sorted(collectives(PROGRAM)) == [
        Collective("all-reduce", 4, (), False),
        Collective("all-reduce", 16, (4,), True),
        Collective("all-to-all", 20, (1, 5, 1, 5), True),
        Collective("all-to-all", 336, (2, 7, 3), False),
    ]
