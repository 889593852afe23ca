"""The DAG's own sensor while a broker is down for an hour in the window: it looks again, sends once, or ends late."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))

from real_book import RealBook

from tradecore.storage.connection import connect
from tradecore_ui import sending, task_env

pytestmark = pytest.mark.db
DAY, NEXT = date(2005, 2, 2), date(2005, 2, 3)


@pytest.fixture
def book(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealBook]:
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn)
        made.open(DAY)
        assert made.decide(DAY)["orders"], "not exercised: nothing to send"
        monkeypatch.setattr(task_env, "run", lambda stage: stage(made.context(DAY)))
        yield made


def test_an_hour_without_the_broker_costs_looks_and_no_order(book: RealBook):
    sensor = sending.SubmitSensor(task_id="run", mode="reschedule")
    run: Any = {"dag_run": SimpleNamespace(run_type="scheduled", triggering_user_name=None)}
    book.to(DAY, 19, 0)
    book.faults("timeout_refused", times=10**6, method="GET")
    began, looks = book.hands.now, 0
    while (book.hands.now - began).total_seconds() < 3600:
        assert sensor.poke(run).is_done is False
        assert 5 <= sensor.poke_interval <= 300
        book.hands.sleep(sensor.poke_interval)
        looks += 1
    assert looks > 10
    assert book.posts == {}
    book.venue.faults.faults.clear()
    assert sensor.poke(run).is_done is True
    assert set(book.posts.values()) == {1}
    assert len(book.posts) == len(book.orders(DAY))


def test_a_broker_that_is_back_after_the_window_gets_nothing(book: RealBook):
    sensor = sending.SubmitSensor(task_id="run", mode="reschedule")
    run: Any = {"dag_run": SimpleNamespace(run_type="scheduled", triggering_user_name=None)}
    book.to(NEXT, 9, 0)
    book.faults("timeout_refused", times=10**6, method="GET")
    assert sensor.poke(run).is_done is False
    book.to(NEXT, 9, 28)
    book.venue.faults.faults.clear()
    assert sensor.poke(run).is_done is True
    assert book.posts == {}
    assert {status for _, _, status, _ in book.orders(DAY)} == {"NOT_SENT"}
