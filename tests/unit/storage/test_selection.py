"""Forward factors of a chain of bars, against factors computed one bar at a time; runs of bars that change together."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from tradecore.bars import next_factor
from tradecore.storage import selection
from tradecore.storage.bars import Action

FIRST = datetime(2024, 1, 2, 21, tzinfo=UTC)


def chain(factors: list[float], staged: Collection[int] = ()) -> list[selection._Link]:
    """Return daily bars with these stored factors; the staged ones are new."""
    return [
        selection._Link(
            bar_end_at=FIRST + timedelta(days=k),
            session_date=(FIRST + timedelta(days=k)).date(),
            close_e4=1_000_000 + k,
            factor=factor,
            staged=k if k in staged else -1,
        )
        for k, factor in enumerate(factors)
    ]


def action(day: int, *, num: int = 1, den: int = 1, dividend_e6: int = 0) -> Action:
    return Action(
        instrument_id=1,
        ex_date=(FIRST + timedelta(days=day)).date(),
        kind="dividend" if dividend_e6 else "split",
        ratio_num=num,
        ratio_den=den,
        dividend_e6=dividend_e6,
        pay_date=None,
        known_at=FIRST,
    )


def test_runs_set_every_bar_to_its_factor_and_no_other():
    """Also where a factor comes back, as after a split and its reverse: a run covers no bar of another factor."""
    random = np.random.default_rng(5)
    came_back = 0
    for _ in range(500):
        wanted = random.choice([1.0, 2.0, 3.0], 12).tolist()
        stored = random.choice([1.0, 2.0, 3.0], 12).tolist()
        new = {int(k) for k in random.choice(12, 3)}
        links = chain(stored, new)
        became = [wanted[k] if k in new else factor for k, factor in enumerate(stored)]
        runs = selection._changed(1, links, wanted)
        for run in runs:
            for k, link in enumerate(links):
                if run.first_at <= link.bar_end_at <= run.last_at:
                    became[k] = run.factor
        assert became == wanted
        came_back += len({run.factor for run in runs}) < len(runs)
    assert came_back > 100, "not exercised: a factor that comes back"


@pytest.mark.parametrize("before", [None, (1.5, date(2024, 1, 1))])
def test_factors_of_a_chain_equal_those_bar_by_bar(before: tuple[float, date] | None):
    """The bar an instrument starts with has no factor of its own: an action on its day changes nothing."""
    actions = [action(0, num=2), action(3, dividend_e6=500_000), action(6, num=3, den=2), action(6, dividend_e6=70_000)]
    links = [link for k, link in enumerate(chain([1.0] * 9)) if k != 3]  # the ex-date has no bar: it counts at the next
    values = selection._forward(links, actions, before)
    first = 1.5 if before else 1.0
    first = next_factor(first, 1_000_000, 2, 1, 0) if before else first
    fourth = next_factor(first, 1_000_004, 1, 1, 500_000)
    sixth = next_factor(fourth, 1_000_006, 3, 2, 70_000)
    assert values == [first, first, first, fourth, fourth, sixth, sixth, sixth]
