"""The csv feed serves what is there, keeps what is no bar, and names what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from tradecore.errors import ConfigError, MalformedData, NoDataYet, NoSuchSymbol, NotASession
from tradecore.feeds import BarBatch, Feed, open_feed
from tradecore.sessions import calendar
from tradecore.units import to_ns

SAMPLE = Path(__file__).resolve().parents[3] / "include" / "sample_data"
XNYS = calendar("XNYS")
FRIDAY, MONDAY = date(2005, 2, 25), date(2005, 2, 28)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for symbol in ("AAPL", "MSFT", "GOOG"):
        shutil.copy(SAMPLE / f"{symbol}.csv", tmp_path)
    shutil.copy(SAMPLE / "corporate_actions.csv", tmp_path)
    return tmp_path


def feed(folder: Path) -> Feed:
    return open_feed("csv", options={"folder": str(folder)})


def bars(folder: Path, *symbols: str, first: date = FRIDAY, last: date = MONDAY) -> BarBatch:
    return feed(folder).bars(symbols, "1d", first, last, XNYS)


def edit(path: Path, starts: str, change: Callable[[str], str]) -> int:
    """Change the line that starts so; returns its number."""
    lines = path.read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(starts))
    lines[at] = change(lines[at])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return at + 1


def test_bars_are_the_files_bars_as_traded(folder: Path) -> None:
    rows = bars(folder, "AAPL", "MSFT").rows
    assert [(r["symbol"], r["session_date"].item(), r["close"], r["volume"]) for r in rows] == [
        ("AAPL", FRIDAY, 88.99, 16348400),
        ("AAPL", MONDAY, 44.86, 11635900),
        ("MSFT", FRIDAY, 25.25, 62467700),
        ("MSFT", MONDAY, 25.16, 82728000),
    ]
    assert rows["bar_end_ns"][1] == to_ns(datetime(2005, 2, 28, 21, tzinfo=UTC))


def test_a_symbol_not_yet_listed_has_no_row(folder: Path) -> None:
    rows = bars(folder, "AAPL", "GOOG", first=date(2004, 8, 18), last=date(2004, 8, 19)).rows
    assert [(r["symbol"], str(r["session_date"])) for r in rows] == [
        ("AAPL", "2004-08-18"),
        ("AAPL", "2004-08-19"),
        ("GOOG", "2004-08-19"),
    ]


def test_an_unknown_symbol_is_named_with_the_nearest_known_one(folder: Path) -> None:
    with pytest.raises(NoSuchSymbol, match="no 1d bars of 'APPL'; it has AAPL, GOOG, MSFT") as e:
        bars(folder, "MSFT", "APPL")
    assert e.value.nearest == "AAPL"
    assert "Did you mean AAPL?" in e.value.next_step


def test_a_session_after_the_feeds_end_is_not_there_yet(folder: Path) -> None:
    with pytest.raises(NoDataYet, match="ends on 2013-03-01; asked for bars up to 2013-03-04"):
        bars(folder, "AAPL", first=date(2013, 2, 25), last=date(2013, 3, 4))


def test_a_missing_session_is_a_missing_row_and_the_others_are_served(folder: Path) -> None:
    edit(folder / "AAPL.csv", "2005-02-28", lambda line: "")
    assert [r["symbol"] for r in bars(folder, "AAPL", "MSFT", first=MONDAY).rows] == ["MSFT"]


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda line: line.replace(",44.68,", ",44.6.8,"), "open '44.6.8' is no number"),
        (lambda line: line.replace(",44.68,", ",4_4.68,"), "open '4_4.68' is no number"),
        (lambda line: "2005-02-28,44.68,45.14", "has 3 fields, its header 7"),
        (lambda line: line + ",1", "has 8 fields, its header 7"),
        (lambda line: line.replace("2005-02-28", "2005-02-2x"), "session_date '2005-02-2x' is no date"),
        (lambda line: "\x00\ufffd garbage", "garbage' is no date"),
        (
            lambda line: line.replace("2005-02-28", "2005-02-26"),
            "2005-02-26 (Saturday) is not a session of XNYS; nearest sessions: 2005-02-25 and 2005-02-28",
        ),
    ],
)
def test_a_line_that_is_no_bar_is_kept_with_number_and_reason(
    folder: Path, change: Callable[[str], str], reason: str
) -> None:
    number = edit(folder / "AAPL.csv", "2005-02-28", change)
    batch = bars(folder, "AAPL", "MSFT")
    assert [(r["symbol"], r["session_date"].item()) for r in batch.rows] == [
        ("AAPL", FRIDAY),
        ("MSFT", FRIDAY),
        ("MSFT", MONDAY),
    ]
    (reject,) = batch.rejects
    assert (reject.symbol, reject.line_no) == ("AAPL", number)
    assert reason in reject.reason
    line = (folder / "AAPL.csv").read_text(encoding="utf-8").splitlines()[number - 1]
    assert reject.raw == line.replace("\x00", "\\x00"), "PostgreSQL's text holds no NUL"
    assert FRIDAY <= reject.session_date <= MONDAY
    # it is told once, with the sessions where it stands, not on every other day
    assert not bars(folder, "AAPL", first=date(2005, 3, 2), last=date(2005, 3, 3)).rejects


def test_what_is_only_wrong_as_a_price_is_left_to_validation(folder: Path) -> None:
    edit(folder / "AAPL.csv", "2005-02-28", lambda line: "2005-02-28,nan,-1,,44.86,,0.1")
    row = bars(folder, "AAPL", first=MONDAY).rows[0]
    assert np.isnan([row["open"], row["low"], row["volume"]]).all()
    assert (row["high"], row["close"]) == (-1.0, 44.86)


def test_duplicates_are_all_served_in_the_files_order(folder: Path) -> None:
    edit(folder / "AAPL.csv", "2005-02-28", lambda line: line + "\n" + line.replace("44.86", "44.90"))
    assert list(bars(folder, "AAPL", first=MONDAY).rows["close"]) == [44.86, 44.90]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "AAPL.csv is empty"),
        ("\n\n", "AAPL.csv is empty"),
        ("session_date,open,high,low,close,volume\n", "a header and no bar"),
        ("date,open,high,low,close,volume\n2005-02-28,1,1,1,1,1\n", "0 columns 'session_date'"),
        ("session_date,open,high,low,close,close,volume\n2005-02-28,1,1,1,1,1,1\n", "2 columns 'close'"),
    ],
)
def test_a_file_that_is_no_bars_file_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "AAPL.csv").write_text(text, encoding="utf-8")
    with pytest.raises(MalformedData, match=message) as e:
        bars(folder, "AAPL", "MSFT")
    assert e.value.next_step


def test_a_file_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "AAPL.csv").write_bytes("session_date,öffnung\n".encode("latin-1"))
    with pytest.raises(MalformedData, match=r"AAPL.csv is not UTF-8 text"):
        bars(folder, "AAPL")


def test_a_range_beyond_the_calendar_is_refused(folder: Path) -> None:
    with pytest.raises(NotASession, match="outside the table"):
        bars(folder, "AAPL", last=date(2044, 1, 4))


def test_one_file_may_hold_several_symbols(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text(
        "symbol,session_date,open,high,low,close,volume\n"
        "AAA,2005-02-28,1,2,1,2,10\nBBB,2005-02-28,3,4,3,4,20\n,2005-02-28,5,6,5,6,30\n",
        encoding="utf-8",
    )
    rows = bars(tmp_path, "BBB", "AAA", first=MONDAY).rows
    assert [(r["symbol"], r["close"]) for r in rows] == [("AAA", 2.0), ("BBB", 4.0)]
    assert feed(tmp_path).last_session(["AAA"]) == MONDAY


def intraday(folder: Path, *lines: str) -> BarBatch:
    (folder / "195m").mkdir(exist_ok=True)
    text = "\n".join(["session_date,bar_end_at,open,high,low,close,volume", *lines]) + "\n"
    (folder / "195m" / "AAPL.csv").write_text(text, encoding="utf-8")
    return feed(folder).bars(["AAPL"], "195m", FRIDAY, MONDAY, XNYS)


def test_bars_within_the_session_come_from_the_timeframes_folder(folder: Path) -> None:
    batch = intraday(
        folder,
        "2005-02-25,2005-02-25T21:00Z,1,1,1,1,1",
        "2005-02-28,2005-02-28T17:45Z,44.68,45.14,44.5,45,6000",
        "2005-02-28,2005-02-28T16:00-05:00,45,45.1,43.96,44.86,5000",
        "2005-02-28,2005-02-28T21:30Z,1,1,1,1,1",
        "2005-02-28,2005-02-28T21:00,1,1,1,1,1",
    )
    assert list(batch.rows["bar_end_ns"]) == [
        to_ns(at) for at in (XNYS.session(FRIDAY).close_at, *XNYS.bar_ends(MONDAY, "195m"))
    ]
    assert [r.reason for r in batch.rejects] == [
        "2005-02-28T21:30Z is the end of no 195m bar of 2005-02-28",
        "bar_end_at 2005-02-28T21:00 has no UTC offset",
    ]


def test_a_timeframe_without_files_knows_no_symbol(folder: Path) -> None:
    with pytest.raises(NoSuchSymbol, match="no 60m bars of 'AAPL'; it has none"):
        feed(folder).bars(["AAPL"], "60m", FRIDAY, MONDAY, XNYS)


def test_actions_of_a_range_include_both_ends(folder: Path) -> None:
    assert [(a.symbol, a.kind, a.ratio_num, a.source) for a in feed(folder).actions(["AAPL"], MONDAY, MONDAY)] == [
        ("AAPL", "split", 2, "csv")
    ]
    assert feed(folder).actions(["AAPL"], FRIDAY, FRIDAY) == ()
    assert feed(folder).actions(["MSFT"], FRIDAY, MONDAY) == ()
    (folder / "corporate_actions.csv").unlink()
    assert feed(folder).actions(["AAPL"], MONDAY, MONDAY) == ()


@pytest.mark.parametrize(
    "line",
    [
        "AAPL,2005-02-28,splitt,2,1,,",
        "AAPL,2005-02-28,split,,,,",
        "AAPL,2005-02-28,split,2,0,,",
        "AAPL,2005-02-28,split,-2,1,,",
        "AAPL,2005-02-28,dividend,,,,",
        "AAPL,2005-02-28,dividend,,,-0.1,",
        "AAPL,2005-02-28,dividend,,,nan,",
        "AAPL,2005-02-30,dividend,,,0.1,",
        "AAPL,2005-02-28,dividend,,,0.1,soon",
        ",2005-02-28,dividend,,,0.1,",
        "AAPL,2005-02-28,dividend,,,a,",
    ],
)
def test_an_action_that_cannot_be_read_stops_with_its_line(folder: Path, line: str) -> None:
    number = edit(folder / "corporate_actions.csv", "AAPL,2005-02-28", lambda _: line)
    with pytest.raises(MalformedData, match=f"corporate_actions.csv, line {number}: ") as e:
        feed(folder).actions(["MSFT"], MONDAY, MONDAY)
    assert e.value.line_no == number


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("csvv", {}, "known feeds: csv, parquet, yahoo, alpaca, alpha_vantage, crypto. Next: Set data.feed to csv"),
        ("csv", {"foldr": "x"}, "data.options.foldr is not an option of the csv feed.*Did you mean folder"),
        ("csv", {"folder": "no/such/place"}, "'no/such/place' is no folder"),
        ("csv", {}, "folder"),
        ("yahoo", {"attempts": 0}, "attempts is 0"),
        ("yahoo", {"timeout_s": -1}, "timeout_s is -1"),
        ("yahoo", {"base_url": "ftp://x"}, "does not start with http"),
    ],
)
def test_a_feed_or_option_that_cannot_be_is_a_configuration_error(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as e:
        open_feed(name, options=options)
    assert e.value.location.startswith("data.")


def test_a_relative_folder_is_within_the_project() -> None:
    assert open_feed("csv", options={"folder": "include/sample_data"}).last_session(["FB"]) == date(2013, 3, 1)
