"""Two bars a session through the CLI: its stages = one backtest = the day loop in Decimal, at every bar.

The sample is daily. Its rows are cut in two, which leaves what a day says about itself as it is: the day opens at the
first half's open and closes at the second's close, its high and low are those of one half each (by turns), and the
volumes of the halves sum to it. Between them lies the cent nearest below the middle of open and close.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date, datetime
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from parity_case import REPO, Stages, compare, compare_scores, read_back, run_fold, run_reference
from random_market import book_quanta

from tradecore import cli, logs, pipeline, settings
from tradecore.sessions import Calendar, calendar
from tradecore.storage import books

pytestmark = pytest.mark.db
XNYS = calendar("XNYS")
TIMEFRAME = "195m"
HALF_DAY, SPLIT = date(2004, 11, 26), date(2005, 2, 28)
STAGES = ("ingest", "validate", "settle", "signal", "risk", "plan", "report", "approve", "submit")
SETTINGS: dict[str, dict[str, Any]] = {
    "book": {"timeframe": TIMEFRAME},
    "risk": {"rebalance_band_frac": 0.0005, "min_order_notional_usd": 10, "max_daily_loss": 0.004},
    "execution": {
        "participation_frac": 0.000001,
        "max_order_age_bars": 5,
        "commission_min_usd": 1,
    },
}


def cut_in_two(line: list[str], ends: tuple[str, str]) -> list[list[str]]:
    """Return the two bars of a daily row: session_date, bar_end_at, open, high, low, close, volume."""
    day, texts, volume = date.fromisoformat(line[0]), line[1:5], int(line[5])
    opened, high, low, closed = (Decimal(text) for text in texts)
    middle = ((opened + closed) / 2).quantize(Decimal("0.01"), ROUND_FLOOR)
    halves = []
    for k, (first, last) in enumerate(((opened, middle), (middle, closed))):
        top = high if day.toordinal() % 2 == k else max(first, last)
        bottom = low if day.toordinal() % 3 % 2 == k else min(first, last)
        part = volume // 2 if k == 0 else volume - volume // 2
        halves.append([line[0], ends[k], *map(str, (first, top, bottom, last)), str(part)])
    return halves


def two_bar_folder(folder: Path, first: date, last: date) -> Path:
    """Write the sample with bars of half a session, first to last; the daily files and the actions stay."""
    shutil.copytree(REPO / "include/sample_data", folder)
    (folder / TIMEFRAME).mkdir()
    for path in sorted(folder.glob("*.csv")):
        if path.stem == "corporate_actions":
            continue
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        lines = ["session_date,bar_end_at,open,high,low,close,volume"]
        for row in rows:
            if first <= date.fromisoformat(row[0]) <= last:
                ends = tuple(end.isoformat() for end in XNYS.bar_ends(date.fromisoformat(row[0]), TIMEFRAME))
                lines += [",".join(half) for half in cut_in_two(row, ends)]  # type: ignore[arg-type]
        if len(lines) > 1:
            (folder / TIMEFRAME / path.name).write_text("\n".join(lines) + "\n")
    return folder


def test_halves_make_up_their_day():
    """Open, high, low, close and volume of each real day are those of its two bars, which are bars themselves."""
    count = 0
    for path in sorted((REPO / "include/sample_data").glob("[A-Z]*.csv")):
        for line in path.read_text().splitlines()[1:]:
            row = line.split(",")
            one, two = ([Decimal(x) for x in half[2:]] for half in cut_in_two(row, ("", "")))
            whole = [one[0], max(one[1], two[1]), min(one[2], two[2]), two[3], one[4] + two[4]]
            assert whole == [Decimal(x) for x in row[1:6]]
            assert all(bar[1] >= max(bar[0], bar[3]) >= min(bar[0], bar[3]) >= bar[2] for bar in (one, two))
            count += 1
    assert count > 10_000


@pytest.fixture
def quiet_logs() -> Iterator[None]:
    yield
    logs.reset()


def tradecore(*arguments: str) -> None:
    """Run the CLI in this process; its errors are the test's."""
    cli.app([*arguments], standalone_mode=False)


def run_cli(found: settings.Settings, conn: psycopg.Connection, sessions: tuple[date, ...]) -> Stages:
    """Run every stage of every bar by its command, and read the book back after each bar."""
    out, hashes = [], []
    for day in sessions:
        for number in range(1, 1 + len(XNYS.bar_ends(day, TIMEFRAME))):
            for stage in STAGES:  # without --bar: the one that is next
                tradecore(stage, str(day), "--json")
            tradecore("close", str(day), "--bar", str(number), "--json")
            ctx = pipeline.contexts(found, conn, book="sim", session_date=day, now=XNYS.session(day).close_at)[
                number - 1
            ]
            assert ctx.status() == "closed"
            out.append(book_quanta(read_back(ctx)))
            hashes.append(str(conn.execute(books.SQL["state"], ctx.key).fetchone()[10]))  # type: ignore[index]
            conn.rollback()
    return Stages(books=out, hashes=hashes)


@pytest.mark.parametrize(
    ("first", "last", "remainder", "least"),
    [
        pytest.param(
            date(2004, 11, 23),
            date(2004, 11, 30),
            "carry",
            {"fills": 20, "partial fills": 20, "first-half orders": 10, "half-days": 1},
            id="half-day",
        ),
        pytest.param(
            date(2005, 2, 23),
            date(2005, 3, 2),
            "cancel",
            {"fills": 8, "partial fills": 4, "split held": 1, "order across the split": 1},
            id="split",
        ),
        pytest.param(
            date(2004, 11, 23),
            date(2005, 3, 2),
            "carry",
            {"fills": 60, "partial fills": 20, "half-days": 1, "split held": 1, "first-half orders": 10},
            id="both",
            marks=[pytest.mark.slow, pytest.mark.timeout(1800)],
        ),
    ],
)
def test_stages_of_the_cli_equal_fold_and_day_loop(
    tmp_path: Path,
    database_url: str,
    conn: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    quiet_logs: None,
    capsys: pytest.CaptureFixture[str],
    first: date,
    last: date,
    remainder: str,
    least: dict[str, int],
):
    first_bar = date(2004, 10, 1) if first < date(2005, 1, 1) else date(2005, 1, 3)
    following = XNYS.next_session(last)
    config = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
    for section, values in SETTINGS.items():
        config[section].update(values)
    config["strategies"]["ma_crossover"]["params"]["confidence_threshold"] = 0.3
    config["execution"]["remainder"] = remainder
    folder = two_bar_folder(tmp_path / "data", first_bar, following)
    config["data"].update(options={"folder": str(folder)}, restate_sessions=1)
    (tmp_path / "trading.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (tmp_path / "no.env").write_text("")
    environ = {
        "DATABASE_URL": database_url,
        "TRADECORE_CONFIG": str(tmp_path / "trading.yaml"),
        "TRADECORE_ENV_FILE": str(tmp_path / "no.env"),
        "TRADECORE_LOCAL_DIR": str(tmp_path / "local"),
        "LOG_LEVEL": "ERROR",
    }
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    found = settings.load()
    sessions = XNYS.sessions_in_range(first, last)

    tradecore("load-history", str(first_bar), str(XNYS.previous_session(first)), "--json")
    opened = pipeline.open_book(found, conn, book="sim", before=first, now=XNYS.session(first).open_at)
    assert opened.timeframe == TIMEFRAME
    stages = run_cli(found, conn, sessions)
    inputs, fold = run_fold(found, conn, sessions)
    compare(stages, inputs, fold, run_reference(found, sessions, first_bar, inputs.symbols))
    compare_scores(conn, "sim", inputs)
    compute_again(capsys, sessions[-4:])
    seen = covered(conn, sessions, XNYS)
    print(f"proof: two bars a session over {len(stages.books)} bars, {first} to {last}: {seen}")
    for what, count in least.items():
        assert seen[what] >= count, f"not exercised: {what} {seen[what]} of {count} in {seen}"


def compute_again(capsys: pytest.CaptureFixture[str], sessions: tuple[date, ...]) -> None:
    """Replay and prove each bar of sessions by its command: equal, bar by bar, and different with other limits."""

    def said(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        if code:
            with pytest.raises(SystemExit) as stopped:
                tradecore(*arguments, "--json")
            assert stopped.value.code == code
        else:
            tradecore(*arguments, "--json")
        return json.loads(capsys.readouterr().out)

    for day in sessions:
        ends = XNYS.bar_ends(day, TIMEFRAME)
        assert [proof["proof"] for proof in said("prove-day", str(day))] == ["equal"] * len(ends)
        replayed = said("replay", str(day))
        assert [r["equal"] for r in replayed] == [True] * len(ends)
        assert [datetime.fromisoformat(r["bar_end_at"]) for r in replayed] == list(ends)
        assert all(sorted(r["hashes"]["replayed"]) == sorted(r["hashes"]["happened"]) for r in replayed)
        second = said("replay", str(day), "--bar", "2")
        assert (second["equal"], second["hashes"]) == (True, replayed[1]["hashes"]), "the second bar by its number"
    capsys.readouterr()
    tradecore("replay", str(sessions[0]))
    tradecore("prove-day", str(sessions[0]))
    told = capsys.readouterr().out
    for number, end in enumerate(XNYS.bar_ends(sessions[0], TIMEFRAME), start=1):
        assert f"sim on {sessions[0]}, the bar to {end:%H:%M} UTC, computed again" in told
        assert f"bar {number}: proof: equal" in told
    assert "P&L next bar" in told
    other = said("replay", str(sessions[-2]), "--limits", "max_position_size=0.01", code=1)
    assert [r["stage"] for r in other] == ["risk", "risk"], "each bar begins from what was stored before it"
    assert all(r["inputs"]["config"] == "different" for r in other)
    with pytest.raises(SystemExit) as stopped:
        tradecore("replay", str(sessions[0]), "--bar", "3")
    assert stopped.value.code == 2
    assert "has 2 bar(s), not 3" in capsys.readouterr().err


def covered(conn: psycopg.Connection, sessions: tuple[date, ...], known: Calendar) -> dict[str, int]:
    """Count in the database what a run made happen."""
    eve = known.bar_ends(known.previous_session(SPLIT), TIMEFRAME)[-1]
    firsts = [known.bar_ends(day, TIMEFRAME)[0] for day in sessions]
    queries = {
        "fills": ("SELECT count(*) FROM fills", ()),
        "partial fills": ("SELECT count(*) FROM order_events WHERE status = 'PARTIAL'", ()),
        "split held": ("SELECT count(*) FROM book_events WHERE kind = 'split'", ()),
        "order across the split": ("SELECT count(*) FROM intents WHERE split_num = 2 AND bar_end_at = %s", (eve,)),
        "first-half orders": ("SELECT count(*) FROM intents WHERE bar_end_at = ANY(%s)", (firsts,)),
    }
    found = {what: int(conn.execute(q, p).fetchone()[0]) for what, (q, p) in queries.items()}  # type: ignore[index]
    early = [d for d in sessions if known.session(d).close_at.hour == 18]  # 13:00 in New York, in winter
    return found | {"half-days": len(early)}
