"""Strategies by name: every one is known, and takes out all heads it is asked for, in time to train on."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.head_cases import IMAGES, batch_for, transformer

from structnet.errors import UserError
from structnet.heads.scores import SCORES, measure
from structnet.heads.strategies import ALL, NONE, SPREAD, Event, events_of, strategy_named
from structnet.heads.surgery import all_heads


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("heads", "stages"), [(1, 3), (7, 3), (8, 2), (5, 1)])
def test_all_heads_go_early_and_none_twice(name: str, heads: int, stages: int) -> None:
    strategy = strategy_named(name)
    assert strategy.name == name
    events = events_of(strategy, heads, stages)
    if name == NONE:
        assert events == ()
        return
    assert events[0].share == 0 and events[-1].gone == heads
    gone, shares = [event.gone for event in events], [event.share for event in events]
    assert len(set(gone)) == len(gone) and gone == sorted(gone)
    assert shares == sorted(shares) and shares[-1] < SPREAD
    assert len(events) == (1 if strategy.kind == "one_shot" else min(stages, heads))


def test_three_stages_by_hand() -> None:
    events = events_of(strategy_named("gradual:entropy"), 7, 3)
    assert events == (Event(0.0, 2), Event(SPREAD / 3, 5), Event(SPREAD * 2 / 3, 7))


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_of_every_head(name: str) -> None:
    model = transformer(IMAGES)
    scores = SCORES[name](measure(model, [batch_for(IMAGES)]), np.random.default_rng(0))
    assert list(scores) == all_heads(model) and np.isfinite(list(scores.values())).all()
    assert len(set(scores.values())) > 1


@pytest.mark.parametrize("name", ["one_shot", "gradual:luck", "tournament:entropy", ""])
def test_a_strategy_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match=f"strategy is '{name}', but must be none, tournament, or one_shot"):
        strategy_named(name)
