"""What is appended to bar_versions: only what says something new, whole statements, nothing lost; against a twin."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import numpy as np
import psycopg
import pytest

from tradecore.ingestion import VERSION_DTYPE
from tradecore.storage import bars
from tradecore.units import from_day, from_ns, to_day, to_ns

pytestmark = [pytest.mark.db, pytest.mark.hypertable]
START = datetime(2026, 1, 2, 12, tzinfo=UTC)
ENDS = [datetime(2024, 12, 30, 21, tzinfo=UTC) + timedelta(days=k) for k in range(4)]  # two chunks of a year
WHERE = {"timeframe": "1d", "source": "made"}
Key = tuple[int, datetime]
Copies = list[tuple[float, float]]


def load_of(statements: dict[Key, Copies]) -> np.ndarray:
    """Return the rows of a load: the copies of a bar count up dup_no; known an hour after its end, assumed."""
    rows = np.zeros(sum(map(len, statements.values())), VERSION_DTYPE)
    k = 0
    for (instrument, end), copies in statements.items():
        for dup, (close, volume) in enumerate(copies):
            rows[k] = (instrument, to_ns(end), dup, to_ns(end) + 3600 * 10**9, True, to_day(end.date()),
                       close, close, close, close, volume)  # fmt: skip
            k += 1
    return rows


def random_load(rng: random.Random, newest: dict[Key, Copies]) -> dict[Key, Copies]:
    """Return what the vendor says next: mostly what it said before, some of it restated, doubled or back as it was."""
    out: dict[Key, Copies] = {}
    for key in [(i, end) for i in (1, 2, 3) for end in ENDS]:
        if rng.random() < 0.3:
            continue
        copies = newest.get(key)
        if copies is None or rng.random() < 0.3:
            close = lambda: rng.choice((10.0, 10.5, float("nan")))  # noqa: E731
            copies = [(close(), float(rng.randrange(2))) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        out[key] = copies
    return out


def told(copies: Copies) -> list[tuple[str, float]]:
    return [(str(close), volume) for close, volume in copies]  # NaN is equal to NaN


def test_versions_equal_a_twin_that_remembers_statements(conn: psycopg.Connection):
    seen = dict.fromkeys(("new", "restated", "unchanged", "back", "fewer copies", "straight in", "staged"), 0)
    for seed in range(30):
        rng, history = random.Random(seed), dict[Key, list[Copies]]()
        for k in range(5):
            now = START + timedelta(minutes=k if rng.random() < 0.8 else -k)  # clocks of processes differ
            newest = {key: said[-1] for key, said in history.items()}
            load = random_load(rng, newest)
            expected = set[date]()
            for key, copies in load.items():
                said = history.setdefault(key, [])
                if said and told(said[-1]) == told(copies):
                    seen["unchanged"] += 1
                    continue
                seen["restated" if said else "new"] += 1
                seen["back"] += any(told(s) == told(copies) for s in said)
                seen["fewer copies"] += bool(said) and len(copies) < len(said[-1])
                said.append(copies)
                expected.add(key[1].date())
            found = bars.append_versions(conn, rows=load_of(load), now=now, **WHERE)
            assert found == sorted(expected), f"seed {seed}, load {k}"
            seen["straight in" if not newest else "staged"] += 1
        assert stored(conn) == {key: [told(c) for c in said] for key, said in history.items()}, f"seed {seed}"
        conn.rollback()
    assert min(seen.values()) >= 10, f"not exercised: {seen}"


def stored(conn: psycopg.Connection) -> dict[Key, list[list[tuple[str, float]]]]:
    """Return the statements of each bar in the order of known_at, each with its copies."""
    out: dict[Key, dict[datetime, list[tuple[str, float]]]] = {}
    query = "SELECT instrument_id, bar_end_at, known_at, close, volume, known_at_assumed FROM bar_versions"
    for instrument, end, known, close, volume, assumed in conn.execute(query + " ORDER BY 1, 2, 3, dup_no"):
        statements = out.setdefault((instrument, end), {})
        statements.setdefault(known, []).append((str(close), volume))
        assert assumed == (known == end + timedelta(hours=1)), "only the first is known as a bulk load assumes"
    return {key: list(statements.values()) for key, statements in out.items()}


def test_dates_and_times_of_a_load_are_those_of_its_bars(conn: psycopg.Connection):
    """Straight into the table, and by way of the stage: the same rows."""
    load = load_of({(1, end): [(10.0, 1.0)] for end in ENDS})
    assert bars.append_versions(conn, rows=load[:2], now=START, **WHERE) == [end.date() for end in ENDS[:2]]
    assert bars.append_versions(conn, rows=load, now=START, **WHERE) == [end.date() for end in ENDS[2:]]
    query = "SELECT instrument_id, bar_end_at, known_at, session_date, timeframe, source FROM bar_versions ORDER BY 2"
    assert conn.execute(query).fetchall() == [
        (1, from_ns(r["bar_end_ns"]), from_ns(r["known_ns"]), from_day(r["session_day"]), "1d", "made") for r in load
    ]
