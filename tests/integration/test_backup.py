"""Backups: what comes back is what was there; what was cut, altered or made with another key does not come back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from table_checksums import changed_tables, table_checksums
from tradecore import backup
from tradecore.errors import BackupError, TradecoreError
from tradecore.storage import bars, copies, migrate
from tradecore.storage.connection import connect

pytestmark = [pytest.mark.db, pytest.mark.hypertable]
NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def source(module_database_url: str) -> str:
    """Our tables with awkward values, and a table of Airflow's schema beside them."""
    with connect(module_database_url) as conn:
        row = conn.execute(bars.SQL["add_instrument"], ("XNYS", "USD", 100, 1_000_000)).fetchone()
        assert row is not None
        conn.execute(bars.SQL["add_symbol"], ("ÄÖ'\"\\", date(1900, 1, 1), row[0]))
        ends = [datetime(2023, 1, 2, 21, tzinfo=UTC) + timedelta(days=7 * week) for week in range(150)]
        with conn.cursor() as cur:
            cur.executemany(
                "INSERT INTO bars VALUES (%s, '1d', %s, 'made', %s, %s, %s, %s, %s, %s, %s, %s)",
                [(row[0], e, e.date(), e, 10_001, 20_000, 5_000, 10_000, 7, 1 / 3) for e in ends],
            )
        conn.execute("CREATE TABLE public.dag_like (id serial PRIMARY KEY, note jsonb, at timestamptz DEFAULT now())")
        conn.execute(
            "INSERT INTO public.dag_like (note) SELECT to_jsonb(repeat('x', 5000)) FROM generate_series(1, 900)"
        )
        conn.commit()
    return module_database_url


@pytest.fixture(scope="module")
def made(source: str, tmp_path_factory: pytest.TempPathFactory) -> backup.Backup:
    return backup.create(source, tmp_path_factory.mktemp("backups"), KEY, NOW, keep=3)


def refused(file: Path, key: bytes = KEY) -> BackupError:
    with pytest.raises(BackupError) as error:
        backup.verify(file, key)
    return error.value


def test_restored_database_holds_the_same_in_every_table(
    source: str, made: backup.Backup, empty_database_url: str
) -> None:
    record = backup.restore(empty_database_url, made.file, KEY)
    with connect(source) as here, connect(empty_database_url) as there:
        assert changed_tables(table_checksums(here), table_checksums(there)) == {}
        assert copies.contents(here) == copies.contents(there) == record["tables"]
        assert record["tables"]["public.dag_like"][0] == 900, "Airflow's side too"
        assert record["tables"]["tradecore.bars"][0] == 150
        assert migrate.pending(there) == []
        assert there.execute("INSERT INTO public.dag_like (note) VALUES (NULL) RETURNING id").fetchone() == (901,)


def test_file_is_for_us_alone_and_shows_nothing_of_its_content(made: backup.Backup) -> None:
    assert made.file.name == "tradecore-20260302T081500Z.backup"
    assert made.file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in made.file.parent.iterdir()] == [made.file.name], "nothing is left beside it"
    content = made.file.read_bytes()
    assert b"dag_like" not in content
    assert b"PGDMP" not in content, "pg_dump's mark"


def test_a_second_backup_of_the_same_is_another_file_to_who_reads_it(source: str, tmp_path: Path) -> None:
    one, two = (backup.create(source, tmp_path, KEY, NOW + timedelta(days=d), keep=3) for d in (0, 1))
    assert one.rows == two.rows > 1000
    assert one.file.read_bytes()[:200] != two.file.read_bytes()[:200], "a salt of its own"


def test_what_was_altered_or_cut_anywhere_is_refused(made: backup.Backup, tmp_path: Path) -> None:
    content = made.file.read_bytes()
    file = tmp_path / "altered.backup"
    places = [30, 90, len(content) // 3, len(content) // 2, len(content) - 1]
    for place in places:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused(file)
    for length in (0, 50, 110, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(file)
    file.write_bytes(content + content[-4:])
    refused(file)
    file.write_bytes(content)
    assert backup.verify(file, KEY)["made_at"] == NOW.isoformat(), "and as it was, it is fine"


def test_a_file_cut_between_two_frames_or_with_frames_swapped_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.backup"
    with file.open("wb") as out:
        backup._write(out, KEY, {"tables": {}}, [b"first", b"second", b"third"])
    line, _, rest = file.read_bytes().partition(b"\n")
    frames = []
    while rest:
        size = 4 + int.from_bytes(rest[:4], "big")
        frames.append(rest[:size])
        rest = rest[size:]
    assert len(frames) == 4
    for wrong in (
        frames[:3],
        frames[:1],
        frames[1:],
        [frames[0], frames[2], frames[1], frames[3]],
        [*frames, frames[3]],
    ):
        file.write_bytes(line + b"\n" + b"".join(wrong))
        assert "cut, altered" in refused(file).message
    file.write_bytes(line + b"\n" + b"".join(frames))
    backup.verify(file, KEY)


def test_another_key_opens_nothing(made: backup.Backup, empty_database_url: str) -> None:
    assert "another key" in refused(made.file, bytes(32)).message
    with pytest.raises(BackupError):
        backup.restore(empty_database_url, made.file, bytes(32))
    with connect(empty_database_url) as conn:
        assert conn.execute(copies.SQL["tables"]).fetchall() == []


def test_a_stream_that_breaks_off_leaves_the_database_empty(
    source: str, made: backup.Backup, empty_database_url: str
) -> None:
    with made.file.open("rb") as opened:
        _, *parts = backup._read(opened, KEY, made.file)

    def breaks_off():
        yield parts[0][: len(parts[0]) // 2]
        raise BackupError("cut", next_step="")

    with connect(empty_database_url) as conn:
        major = conn.info.server_version // 10_000
    with pytest.raises(BackupError, match="cut"):
        copies.restore(empty_database_url, major, breaks_off())
    with connect(empty_database_url) as conn:
        assert conn.execute(copies.SQL["tables"]).fetchall() == []


def test_a_database_that_holds_something_is_left_alone(source: str, made: backup.Backup) -> None:
    with connect(source) as conn:
        before = table_checksums(conn, row_versions=True)
    with pytest.raises(BackupError, match="tables already"):
        backup.restore(source, made.file, KEY)
    with connect(source) as conn:
        assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}


def test_rows_that_come_while_it_is_made_are_not_half_in_it(
    make_database: Callable[[], AbstractContextManager[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_database() as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("CREATE TABLE public.a (n int)")
        real = copies.dump

        def dump_later(url: str, major: int, name: str):
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("INSERT INTO public.a VALUES (1)")
            yield from real(url, major, name)

        monkeypatch.setattr(copies, "dump", dump_later)
        assert backup.create(url, tmp_path, KEY, NOW, keep=3).rows == 0
        monkeypatch.undo()
        assert backup.create(url, tmp_path, KEY, NOW + timedelta(seconds=1), keep=3).rows == 1


def test_a_backup_that_does_not_restore_to_the_same_is_no_backup_and_removes_none(
    make_database: Callable[[], AbstractContextManager[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_database() as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("CREATE TABLE public.a (n int)")
        first = backup.create(url, tmp_path, KEY, NOW, keep=1)
        real = copies.contents
        said = iter([{"public.a": [1, "5"]}])
        monkeypatch.setattr(copies, "contents", lambda conn: next(said, None) or real(conn))
        with pytest.raises(BackupError, match=r"differs in public\.a"):
            backup.create(url, tmp_path, KEY, NOW + timedelta(days=1), keep=1)
    assert {p.name for p in tmp_path.iterdir()} == {first.file.name, "tradecore-20260303T081500Z.failed"}


def test_newest_stay_and_one_of_each_month(tmp_path: Path) -> None:
    days = [date(2025, 1, 1) + timedelta(days=n) for n in range(0, 420, 5)]
    for day in days:
        (tmp_path / f"tradecore-{day:%Y%m%d}T081500Z.backup").touch()
    (tmp_path / "tradecore-notes.txt").touch()
    gone = backup._rotate(tmp_path, 4)
    left = sorted(p.name for p in tmp_path.glob("*.backup"))
    assert len(left) + len(gone) == len(days)
    assert [name[10:18] for name in left[-4:]] == [f"{day:%Y%m%d}" for day in days[-4:]]
    assert len({name[10:16] for name in left}) == 12
    assert (tmp_path / "tradecore-notes.txt").exists(), "what is not a backup is not touched"
    assert backup._rotate(tmp_path, 4) == []


@pytest.mark.parametrize(
    ("content", "mode", "said"), [("00" * 31, 0o600, "no key"), ("00" * 32, 0o640, "open to other")]
)
def test_a_key_is_whole_and_private(tmp_path: Path, content: str, mode: int, said: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(TradecoreError, match=said):
        backup.load_key(path)
    with pytest.raises(TradecoreError, match="cannot be read"):
        backup.load_key(tmp_path / "none")
    made = backup.load_key(tmp_path / "new", make=True)
    assert made == backup.load_key(tmp_path / "new", make=True), "made once"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
