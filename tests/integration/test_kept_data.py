"""Raw data by age: coarser bars against a naive twin, files that bring back what they took, what retention spares."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest
import yaml

from table_checksums import changed_tables, table_checksums
from tradecore import archiving, maintenance, minutes, settings
from tradecore.errors import ArchiveError
from tradecore.storage import bars, edition, keeping, migrate, rollups
from tradecore.storage.connection import connect

pytestmark = [pytest.mark.db, pytest.mark.hypertable]
REPO = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
SYMBOLS = ("AAA", "BBB")
DAYS = [date(2025, 11, 26), date(2025, 11, 28), date(2025, 12, 1), date(2025, 12, 31), date(2026, 1, 2)]


@pytest.fixture(scope="module")
def filled(module_database_url: str) -> str:
    """Two names with minute bars of five sessions, trades of two, daily bars of a quarter; a database of the module."""
    rng = np.random.default_rng(7)
    with connect(module_database_url) as conn:
        ids = [conn.execute(bars.SQL["add_instrument"], ("XNYS", "USD", 100, 1_000_000)).fetchone()[0] for _ in SYMBOLS]
        for symbol, i in zip(SYMBOLS, ids, strict=True):
            conn.execute(bars.SQL["add_symbol"], (symbol, date(1900, 1, 1), i))
        with conn.cursor() as cur:
            for i in ids:
                cur.executemany(
                    "INSERT INTO minute_bars VALUES (%s, %s, 'made', %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        (i, end, end.date(), end, p, p + 0.5, p - 0.5, p + 0.1, int(v), 3, float("nan"))
                        for day in DAYS
                        for end in (datetime(day.year, day.month, day.day, 14, 31, tzinfo=UTC) + timedelta(minutes=m)
                                    for m in range(0, 390, 3))
                        for p, v in [(round(float(rng.uniform(9, 99)), 2), rng.integers(1, 9000))]
                    ],
                )  # fmt: skip
                said = ["", '@"F,', "I\nT"]
                cur.executemany(
                    "INSERT INTO trades VALUES (%s, %s, 'made', %s, %s, %s, %s, %s)",
                    [
                        (i, datetime(2025, 9, 1 + k % 2, 15, 0, k % 60, k, tzinfo=UTC), "VQ"[k % 2], k, 10.25, 0.5, s)
                        for k, s in zip(range(100), said * 34, strict=False)
                    ],
                )
                ends = [datetime(2025, 10, 1, 21, tzinfo=UTC) + timedelta(days=d) for d in range(90)]
                cur.executemany(
                    "INSERT INTO bars VALUES (%s, '1d', %s, 'made', %s, %s, %s, %s, %s, %s, %s, %s)",
                    [
                        (i, end, end.date(), end, 100_000 + k, 120_000 + k, 90_000, 101_000, 1000 + k, 1.0 + (k > 40))
                        for k, end in enumerate(ends)
                        if end.weekday() < 5
                    ],
                )
        conn.commit()
        for table in (rollups.BARS, rollups.MINUTE_BARS):
            rollups.refresh_all(conn, table)
        conn.commit()
        rollups.catch_up(conn)
    return module_database_url


@pytest.fixture
def kept(filled: str, copied_database) -> Iterator[psycopg.Connection]:
    """A copy of it for one test."""
    with copied_database(filled) as url, connect(url) as conn:
        yield conn


def configured(tmp_path: Path, **policy: object) -> settings.Settings:
    profile = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
    profile["maintenance"] = {"archive_folder": str(tmp_path / "archive"), **policy}
    (tmp_path / "trading.yaml").write_text(yaml.safe_dump(profile))
    return settings.load({"TRADECORE_HOME": str(tmp_path), "INITIAL_CASH": "1000"}, tmp_path / "trading.yaml")


# Coarser bars -------------------------------------------------------------------------------------------------------


def twin(conn: psycopg.Connection, rollup: rollups.Rollup) -> dict[tuple[int, datetime], list[float]]:
    """Return {(instrument, end of the bucket): [open, high, low, close, volume, bars]}, a bar at a time."""
    prices = "open, high, low, close, volume"
    if rollup.of_table == rollups.BARS:
        prices = ", ".join(f"{p}_e4 / 1e4::float8 * adj_factor" for p in ("open", "high", "low", "close")) + ", volume"
    out: dict[tuple[int, datetime], list[float]] = {}
    query = f"SELECT instrument_id, bar_end_at, {prices} FROM {rollup.of_table} ORDER BY bar_end_at"
    for i, end, o, h, low, c, v in conn.execute(query).fetchall():
        key = (i, bucket_end(rollup.timeframe, end))
        if key not in out:
            out[key] = [o, h, low, c, v, 1]
        else:
            was = out[key]
            out[key] = [was[0], max(was[1], h), min(was[2], low), c, was[4] + v, was[5] + 1]
    return out


def bucket_end(timeframe: str, end: datetime) -> datetime:
    """Step on from midnight until the bucket holds the bar's end."""
    at = end.replace(hour=0, minute=0, second=0, microsecond=0)
    if timeframe in ("1w", "1mo"):
        at = at if end == at else at + timedelta(days=1)
        while at.weekday() != 0 if timeframe == "1w" else at.day != 1:
            at += timedelta(days=1)
        return at
    width = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "1d": timedelta(days=1)}[timeframe]
    while at < end:
        at += width
    return at


@pytest.mark.parametrize("rollup", rollups.ROLLUPS, ids=lambda r: r.view)
def test_coarser_bars_equal_a_naive_twin(filled, rollup: rollups.Rollup):
    with connect(filled) as conn:
        query = f"SELECT instrument_id, bucket_at, open, high, low, close, volume, bars FROM {rollup.view}"
        found = {(r[0], rollup.ceiling(r[1] + timedelta(microseconds=2))): list(r[2:]) for r in conn.execute(query)}
        assert found == twin(conn, rollup)
        assert len(found) >= 2 * 3


def test_a_restated_bar_changes_its_buckets_alone_and_a_second_refresh_nothing(kept):
    before = kept.execute("SELECT * FROM bars_1w ORDER BY 1, 3").fetchall()
    end = datetime(2025, 11, 12, 21, tzinfo=UTC)
    kept.execute("UPDATE bars SET high_e4 = 990000 WHERE bar_end_at = %s AND instrument_id = 1", (end,))
    changes = {"of_table": rollups.BARS, "instruments": [1], "first": end, "last": end}
    rollups.refresh(kept, **changes)
    kept.commit()
    rollups.catch_up(kept)
    after = kept.execute("SELECT * FROM bars_1w ORDER BY 1, 3").fetchall()
    differ = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert [b[2].date() for _, b in differ] == [date(2025, 11, 10)]
    checksums = table_checksums(kept, row_versions=True)
    rollups.refresh(kept, **changes)
    kept.commit()
    rollups.catch_up(kept)
    assert changed_tables(checksums, table_checksums(kept, row_versions=True)) == {}
    kept.execute("DELETE FROM bars WHERE instrument_id = 1 AND bar_end_at > '2025-11-10' AND bar_end_at < '2025-11-15'")
    rollups.refresh(kept, **{**changes, "first": end - timedelta(days=2), "last": end + timedelta(days=2)})
    kept.commit()
    rollups.catch_up(kept)
    assert len(kept.execute("SELECT * FROM bars_1w").fetchall()) == len(before) - 1, "the emptied week is gone"


def test_bars_of_before_the_upgrade_get_their_weeks(kept):
    for rollup in rollups.ROLLUPS:
        kept.execute(f"DROP VIEW {rollup.view}")
    kept.execute("TRUNCATE bar_rollups")
    kept.commit()
    assert rollups.not_as_edition(kept) == [r.view for r in rollups.ROLLUPS]
    kept.rollback()
    migrate.upgrade(kept)
    assert rollups.not_as_edition(kept) == []
    assert kept.execute("SELECT count(*) FROM bars_1w").fetchone()[0] == len(twin(kept, rollups.ROLLUPS[0]))


def test_minute_bars_of_past_sessions_come_from_the_feed_and_again_change_nothing(conn, tmp_path):
    found = configured(tmp_path)
    found = settings.load(
        {"TRADECORE_HOME": str(tmp_path), "INITIAL_CASH": "1000"}, with_feed(tmp_path, found.config_path)
    )
    folder = tmp_path / "feed" / "1m"
    folder.mkdir(parents=True)
    lines = ["session_date,bar_end_at,open,high,low,close,volume"]
    for day in (date(2005, 1, 3), date(2005, 1, 4)):
        start = datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)
        lines += [f"{day},{start + timedelta(minutes=m):%Y-%m-%dT%H:%MZ},10,11,9,10.5,{m}" for m in range(1, 391)]
    (folder / "AAPL.csv").write_text("\n".join(lines) + "\n")
    when = {"first": date(2005, 1, 3), "last": date(2005, 1, 4), "symbols": ["AAPL"], "now": NOW}
    done = minutes.load(found, conn, **when)
    assert done == {"sessions": 2, "empty": 0, "bars": 780, "changed": 780}
    for view, count in (("minute_bars_5m", 156), ("minute_bars_1h", 14), ("minute_bars_1d", 2)):
        query = f"SELECT count(*), sum(bars), sum(volume) FROM {view}"
        assert conn.execute(query).fetchone() == (count, 780, 2 * sum(range(391)))
    before = table_checksums(conn, row_versions=True)
    assert minutes.load(found, conn, **when)["changed"] == 0
    assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}


def with_feed(tmp_path: Path, config: Path) -> Path:
    profile = yaml.safe_load(config.read_text())
    profile["data"]["options"] = {"folder": str(tmp_path / "feed")}
    config.write_text(yaml.safe_dump(profile))
    return config


# Files --------------------------------------------------------------------------------------------------------------


def rows(conn: psycopg.Connection, table: str) -> list[tuple[object, ...]]:
    raw = keeping.RAW_TABLES[table]
    found = conn.execute(f"SELECT {', '.join(raw.columns)} FROM {table}").fetchall()
    return sorted(tuple("nan" if v != v else v for v in r) for r in found)


def test_what_retention_took_comes_back_from_the_files_as_it_was(kept, tmp_path):
    found = configured(tmp_path, minute_bars_days=20, trades_days=90)
    before = {table: rows(kept, table) for table in keeping.RAW_TABLES}
    daily = kept.execute("SELECT * FROM minute_bars_1d ORDER BY 1, 3").fetchall()
    kept.rollback()
    done = maintenance.run(found, kept, "retention", NOW, lambda: NOW)
    # 2025-11-26 to 12-01 lie in two chunks of a week (they begin on Thursdays); both days of trades are older than 90
    assert done == {"minute_bars": {"slices": 2, "rows": 3 * 130 * 2}, "trades": {"slices": 2, "rows": 200}}
    after = rows(kept, "minute_bars")
    assert {r[3] for r in after} == {date(2025, 12, 31), date(2026, 1, 2)}
    assert rows(kept, "trades") == []
    assert kept.execute("SELECT * FROM minute_bars_1d ORDER BY 1, 3").fetchall() == daily, "coarser bars stay"
    kept.rollback()
    again = maintenance.run(found, kept, "retention", NOW, lambda: NOW)
    assert again == {"minute_bars": {"slices": 0, "rows": 0}, "trades": {"slices": 0, "rows": 0}}
    files = sorted((tmp_path / "archive").rglob("*"))
    files = [f for f in files if f.is_file()]
    assert [f.parent.name for f in files] == ["minute_bars"] * 2 + ["trades"] * 2
    results = [archiving.import_file(kept, f, NOW, held_days=10) for f in files]
    assert sum(r["new"] for r in results) == 3 * 130 * 2 + 200
    assert {table: rows(kept, table) for table in keeping.RAW_TABLES} == before
    assert kept.execute("SELECT * FROM minute_bars_1d ORDER BY 1, 3").fetchall() == daily
    kept.rollback()
    assert archiving.import_file(kept, files[0], NOW)["new"] == 0, "a second import finds all of it there"
    held = maintenance.run(found, kept, "retention", NOW + timedelta(days=5), lambda: NOW)
    assert held["trades"] == {"slices": 0, "rows": 0}, "an import holds its rows for some days"
    later = maintenance.run(found, kept, "retention", NOW + timedelta(days=11), lambda: NOW)
    assert later["trades"] == {"slices": 2, "rows": 200}
    assert sorted(f for f in (tmp_path / "archive").rglob("*") if f.is_file()) == files, "the same content, once"


def test_nothing_is_dropped_whose_file_does_not_hold_it(kept, tmp_path, monkeypatch):
    found, before = configured(tmp_path, trades_days=90), rows(kept, "trades")
    kept.rollback()
    real = archiving.read_back

    def torn(path: Path) -> tuple[int, str]:
        count, digest = real(path)
        return count - 1, digest

    monkeypatch.setattr(archiving, "read_back", torn)
    with pytest.raises(ArchiveError, match="does not hold what was read from"):
        maintenance.run(found, kept, "retention", NOW, lambda: NOW)
    kept.rollback()
    assert rows(kept, "trades") == before
    assert not [f for f in (tmp_path / "archive").rglob("*") if f.is_file()]


def test_what_arrives_while_a_slice_is_archived_is_not_dropped_with_it(kept, tmp_path, monkeypatch):
    found, before = configured(tmp_path, trades_days=90), rows(kept, "trades")
    kept.rollback()
    real, late = archiving.archive, datetime(2025, 9, 2, 16, 0, tzinfo=UTC)

    def slow(conn: psycopg.Connection, part: keeping.Slice, folder: Path, now: datetime) -> archiving.Archived:
        done = real(conn, part, folder, now)
        if part.first_at <= late < part.until_at:
            with psycopg.connect(kept.info.dsn, password=kept.info.password) as other:
                other.execute("INSERT INTO tradecore.trades VALUES (1, %s, 'made', 'V', 900, 10.5, 1, '')", (late,))
        return done

    monkeypatch.setattr(archiving, "archive", slow)
    done = maintenance.run(found, kept, "retention", NOW, lambda: NOW)
    assert done["trades"] == {"slices": 1, "rows": 100}
    assert len(rows(kept, "trades")) == 101
    kept.rollback()
    monkeypatch.undo()
    assert maintenance.run(found, kept, "retention", NOW, lambda: NOW)["trades"] == {"slices": 1, "rows": 101}
    for file in sorted((tmp_path / "archive" / "trades").iterdir()):
        archiving.import_file(kept, file, NOW)
    assert sorted(r[4] for r in rows(kept, "trades")) == sorted([*(r[4] for r in before), 900])


def test_a_symbol_that_two_names_had_brings_rows_back_to_the_one_they_were_of(kept, tmp_path):
    files = archiving.archive_before(configured(tmp_path), kept, table="trades", before=NOW, now=NOW)
    before = rows(kept, "trades")
    kept.execute("UPDATE instrument_symbols SET valid_to = '2025-10-01' WHERE symbol = 'AAA'")
    (other,) = kept.execute(bars.SQL["add_instrument"], ("XNYS", "USD", 100, 1_000_000)).fetchone()
    kept.execute(bars.SQL["add_symbol"], ("AAA", date(2025, 10, 1), other))
    kept.execute("DELETE FROM trades")
    kept.commit()
    for done in files:
        archiving.import_file(kept, done.file, NOW)
    assert rows(kept, "trades") == before


def test_a_file_that_was_changed_or_is_none_is_refused_and_a_symbol_decides_whose_rows_they_are(kept, tmp_path):
    found = configured(tmp_path)
    (done, _) = archiving.archive_before(found, kept, table="trades", before=NOW, now=NOW)
    assert rows(kept, "trades"), "archiving alone takes nothing"
    whole = done.file.read_bytes()
    with pytest.raises(ArchiveError, match="is no archive of raw data"):
        archiving.import_file(kept, REPO / "README.md", NOW)
    from pyarrow import parquet

    table = parquet.read_table(done.file)
    changed = table.set_column(5, "price", [[11.0] * table.num_rows])
    parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), tmp_path / "changed.parquet")
    head = parquet.read_metadata(done.file).metadata[b"tradecore"]
    with parquet.ParquetWriter(tmp_path / "changed.parquet", changed.schema) as writer:
        writer.write_table(changed)
        writer.add_key_value_metadata({"tradecore": head})
    with pytest.raises(ArchiveError, match="content is not what was archived"):
        archiving.import_file(kept, tmp_path / "changed.parquet", NOW)
    assert done.file.read_bytes() == whole
    # in another database the names have other ids
    kept.execute("UPDATE instrument_symbols SET instrument_id = 3 - instrument_id")
    kept.execute("DELETE FROM trades")
    kept.commit()
    archiving.import_file(kept, done.file, NOW)
    assert json.loads(head)["symbols"] == {"1": "AAA", "2": "BBB"}
    counts = dict(
        kept.execute("SELECT symbol, count(*) FROM trades JOIN instrument_symbols USING (instrument_id) GROUP BY 1")
    )
    assert counts == {"AAA": 50, "BBB": 50}
    kept.rollback()
    kept.execute("UPDATE instrument_symbols SET symbol = 'ZZZ' WHERE symbol = 'AAA'")
    kept.commit()
    with pytest.raises(ArchiveError, match="rows of AAA, which this database does not know"):
        archiving.import_file(kept, done.file, NOW)


# Steps and what the doctor says ---------------------------------------------------------------------------------------


def test_every_step_runs_twice_and_the_doctor_says_which_path_is_in_use(kept, tmp_path):
    found = configured(tmp_path)
    logs = tmp_path / ".local" / "airflow" / "logs"
    old, new = logs / "dag_id=a" / "run_id=1" / "attempt=1.log", logs / "dag_id=a" / "run_id=2" / "attempt=1.log"
    for path in (old, new):
        path.parent.mkdir(parents=True)
        path.write_text("said\n")
    past = (NOW - timedelta(days=31)).timestamp()
    for path in (old, old.parent):
        os.utime(path, (past, past))
    os.utime(new, (NOW.timestamp(), NOW.timestamp()))
    unwell = {f["what"]: f for f in maintenance.findings(found, kept, NOW)}
    assert unwell["storage"]["ok"]
    assert not unwell["maintenance"]["ok"], "raw data are there and nobody keeps them"
    kept.rollback()
    for _ in range(2):
        for step in maintenance.STEPS:
            maintenance.run(found, kept, step, NOW, lambda: NOW)
    assert not old.exists()
    assert new.exists()
    well = {f["what"]: f for f in maintenance.findings(found, kept, NOW)}
    server = edition.of(kept)
    assert well["storage"]["ok"]
    assert well["maintenance"]["ok"], well["maintenance"]
    expected = {
        edition.PLAIN: "plain PostgreSQL: roll-up tables, no compression, delete by range",
        edition.APACHE: f"TimescaleDB {server.version}, Apache edition: roll-up tables, no compression, drop_chunks",
        edition.COMMUNITY: f"TimescaleDB {server.version}, Community edition: continuous aggregates, compressed "
        "chunks, drop_chunks",
    }
    assert well["storage"]["found"] == expected[server.kind]
    ran = defaultdict(int)
    for step, _, _ in kept.execute(keeping.SQL["runs"]).fetchall():
        ran[step] += 1
    assert dict(ran) == dict.fromkeys(maintenance.STEPS, 1)
