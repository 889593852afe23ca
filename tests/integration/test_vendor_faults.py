"""A vendor that throttles, breaks off, lies about its pages and restates: the database is the truth, or untouched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import vendor_schedule as schedule

from tradecore.storage.connection import connect
from vendor_standin.client import Standin, running
from vendor_standin.server import SEEDED

pytestmark = pytest.mark.db


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with running("--first", "2005-02-01", "--last", "2005-03-31") as found:
        yield found


@pytest.fixture(scope="module")
def conn(module_database_url: str) -> Iterator[psycopg.Connection]:
    with connect(module_database_url) as found:
        yield found


def through(seeds: range, tmp_path: Path, standin: Standin, conn: psycopg.Connection, url: str) -> schedule.Seen:
    found, seen = schedule.make_settings(tmp_path, standin, url), schedule.Seen()
    for seed in seeds:
        schedule.run(found, conn, standin, seed, seen)
        if seed % 100 == 99:
            print(f"so far {seed + 1}: {dict(seen.runs)}", flush=True)
    print(f"seeds {seeds.start} to {seeds.stop - 1}: runs {dict(seen.runs)}, faults {dict(seen.faults)}")
    return seen


def test_a_sample_of_fault_schedules(
    standin: Standin, conn: psycopg.Connection, module_database_url: str, tmp_path: Path
) -> None:
    seen = through(range(10), tmp_path, standin, conn, module_database_url)
    assert seen.runs["equal"] >= 10
    assert sum(seen.runs.values()) - seen.runs["equal"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_500_fault_schedules(
    standin: Standin, conn: psycopg.Connection, module_database_url: str, tmp_path: Path
) -> None:
    """VENDOR_SEED=n runs that one again."""
    one = os.environ.get("VENDOR_SEED")
    seeds = range(int(one), int(one) + 1) if one else range(500)
    seen = through(seeds, tmp_path, standin, conn, module_database_url)
    if one is None:
        assert set(seen.faults) == set(SEEDED)
        assert seen.runs["equal"] > 500
