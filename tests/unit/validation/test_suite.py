"""The suite on real sample data, clean and with one planted defect at a time."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from tradecore import validation
from tradecore.feeds import CorporateAction, open_feed
from tradecore.sessions import calendar
from tradecore.units import from_ns
from tradecore.validation import SessionCheck, SessionVerdict, check_rows, content_hash, suite_version, validate

SAMPLE = Path(__file__).resolve().parents[3] / "include" / "sample_data"
XNYS = calendar("XNYS")
FEED = open_feed("csv", options={"folder": str(SAMPLE)})
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
FIRST, SPLIT = date(2005, 2, 14), date(2005, 2, 28)


@dataclass(frozen=True)
class Rules:
    min_coverage: float = 0.95
    max_missing: int = 1
    max_jump_frac: float = 0.4
    stale_repeat_bars: int = 5


RULES = Rules()


@dataclass(frozen=True)
class Bar:
    symbol: str
    session_date: date
    bar_end_at: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    dup_no: int = 0

    @property
    def ohlcv(self) -> tuple[float, ...]:
        return (self.open, self.high, self.low, self.close, self.volume)


Change = Callable[[Bar], Iterable[Bar]]


def sample(first: date, last: date, symbols: Sequence[str] = SYMBOLS) -> list[Bar]:
    return [
        Bar(
            str(r["symbol"]),
            r["session_date"].item(),
            from_ns(r["bar_end_ns"]),
            *(float(r[name]) for name in ("open", "high", "low", "close", "volume")),
        )
        for r in FEED.bars(symbols, "1d", first, last, XNYS).rows
    ]


def plant(bars: list[Bar], symbol: str, day: date, change: Change) -> list[Bar]:
    """Replace one bar by what the change makes of it; fails if there is no such bar."""
    at = next(i for i, bar in enumerate(bars) if (bar.symbol, bar.session_date) == (symbol, day))
    return [*bars[:at], *change(bars[at]), *bars[at + 1 :]]


def with_(**values: Any) -> Change:
    return lambda bar: [replace(bar, **values)]


def checks(
    bars: list[Bar],
    *,
    since: date = FIRST,
    symbols: Sequence[str] = SYMBOLS,
    actions: Sequence[CorporateAction] | None = None,
    due: Callable[[date], Sequence[str]] = lambda day: SYMBOLS,
) -> list[SessionCheck]:
    """Return one check per session from `since` on; what comes before is selected history."""
    if actions is None:
        actions = FEED.actions(symbols, date(2000, 1, 1), date(2013, 3, 1))
    rows = defaultdict(list)
    for symbol in symbols:
        mine = [bar for bar in bars if bar.symbol == symbol]
        history = [(bar.session_date, bar.ohlcv) for bar in mine if bar.session_date < since]
        theirs = [action for action in actions if action.symbol == symbol]
        new = [bar for bar in mine if bar.session_date >= since]
        for row in check_rows(symbol, new, theirs, history, RULES.max_jump_frac):
            rows[row.session_date].append(row)
    last = max(bar.session_date for bar in bars)
    return [
        SessionCheck(
            session_date=day,
            bar_end_at=XNYS.session(day).close_at,
            is_session=True,
            due=tuple(due(day)),
            rows=tuple(rows[day]),
        )
        for day in XNYS.sessions_in_range(since, last)
    ]


def found(verdicts: Sequence[SessionVerdict], *severities: str) -> list[tuple[str, str, str]]:
    """Return who failed what and when; without severities what keeps rows out."""
    return [
        (f.row.symbol, str(f.row.session_date), f.expectation)
        for v in verdicts
        for f in v.findings
        if f.severity in (severities or ("block", "quarantine"))
    ]


def judge(symbol: str, day: date, change: Change) -> list[SessionVerdict]:
    """Judge the two weeks around Apple's split with one defect planted."""
    return validate(checks(plant(sample(FIRST, SPLIT), symbol, day, change)), RULES)


def test_the_whole_sample_passes_but_for_the_one_real_jump() -> None:
    bars = sample(date(2000, 3, 1), date(2013, 3, 1), (*SYMBOLS, "FB"))
    start = {symbol: min(b.session_date for b in bars if b.symbol == symbol) for symbol in (*SYMBOLS, "FB")}
    given = checks(
        bars,
        since=date(2000, 3, 1),
        symbols=(*SYMBOLS, "FB"),
        due=lambda day: [symbol for symbol in start if start[symbol] <= day],
    )
    verdicts = validate(given, RULES)
    assert len(verdicts) == 3270
    assert sum(len(v.check.rows) for v in verdicts) == 12154
    # Apple's profit warning: no corporate action; the bars after it agree with the new level and pass
    assert found(verdicts) == [("AAPL", "2000-09-29", "expect_column_values_to_be_between:jump_frac")]
    assert all(v.gate_open for v in verdicts)
    assert [v.missing for v in verdicts if v.missing] == [("AAPL",)]


def test_without_its_corporate_action_a_split_is_a_jump() -> None:
    given = checks(sample(FIRST, SPLIT), actions=())
    (finding,) = [f for v in validate(given, RULES) for f in v.findings if f.severity == "quarantine"]
    assert (finding.row.symbol, finding.row.session_date) == ("AAPL", SPLIT)
    assert finding.message == (
        "AAPL 2005-02-28: previous_close 88.99, expected_ratio 1, open 44.68, high 45.14, low 43.96, close 44.86. "
        "Rule: prices are within 40% of the adjusted previous close unless a corporate action explains it."
    )
    assert found(validate(checks(sample(FIRST, SPLIT)), RULES)) == []


def test_a_large_dividend_explains_its_fall() -> None:
    # Microsoft's 3.08 USD of 2004-11-15, on 29.97: ten per cent, so against a limit of five
    day = date(2004, 11, 15)
    bars = sample(date(2004, 11, 8), day, ("MSFT",))
    strict = Rules(max_jump_frac=0.05)
    args = {"since": date(2004, 11, 8), "symbols": ("MSFT",), "due": lambda day: ("MSFT",)}
    assert found(validate(checks(bars, **args), strict)) == []
    assert found(validate(checks(bars, actions=(), **args), strict)) == [
        ("MSFT", "2004-11-15", "expect_column_values_to_be_between:jump_frac")
    ]


BETWEEN, NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
PAIR = "expect_column_pair_values_a_to_be_greater_than_b"
UNIQUE = "expect_compound_columns_to_be_unique:symbol,bar_end_ns"


@pytest.mark.parametrize(
    "change, expectations, message",
    [
        (with_(open=math.nan), [f"{NULL}:open"], "open nan. Rule: no value is missing"),
        (with_(close=math.nan), [f"{NULL}:close"], "close nan"),
        (with_(volume=math.nan), [f"{NULL}:volume"], "volume nan"),
        (with_(open=-25.0), [f"{PAIR}:below,low", f"{BETWEEN}:open"], "open -25. Rule: a price is above 0"),
        (with_(low=0.0), [f"{BETWEEN}:low"], "low 0. Rule: a price is above 0"),
        (with_(high=math.inf), [f"{BETWEEN}:high"], "high inf"),
        (with_(volume=-1.0), [f"{BETWEEN}:volume"], "volume -1. Rule: volume is 0 or more"),
        (with_(volume=math.inf), [f"{BETWEEN}:volume"], "volume inf"),
        (with_(high=25.3), [f"{PAIR}:high,above"], "high 25.3, "),
        (with_(low=25.4), [f"{PAIR}:below,low", f"{PAIR}:high,above"], "low 25.4, "),
        (with_(low=25.35), [f"{PAIR}:below,low"], "low is at or below open, high and close"),
        (with_(high=25.0, low=25.5), [f"{PAIR}:below,low", f"{PAIR}:high,above"], "high 25, low 25.5"),
        (with_(open=38.0, high=38.0, low=37.9, close=37.9), [f"{BETWEEN}:jump_frac"], "within 40% of the adjusted"),
        (with_(high=253.8), [f"{BETWEEN}:jump_frac"], "high 253.8"),
        (lambda bar: [bar, replace(bar, dup_no=1)], [UNIQUE], "dup_no 1, "),
        (lambda bar: [bar, replace(bar, dup_no=1, close=25.2)], [UNIQUE, UNIQUE], "one bar per bar end"),
    ],
)
def test_a_planted_defect_is_found_by_name_and_nothing_else_is(
    change: Change, expectations: list[str], message: str
) -> None:
    day = date(2005, 2, 25)
    verdicts = judge("MSFT", day, change)
    assert sorted(found(verdicts)) == [("MSFT", "2005-02-25", name) for name in sorted(expectations)]
    assert any(message in f.message for v in verdicts for f in v.findings), verdicts
    (hit,) = [v for v in verdicts if v.findings]
    copy_is_spared = expectations == [UNIQUE]
    assert hit.missing == (() if copy_is_spared else ("MSFT",))
    assert hit.members_seen == (4 if copy_is_spared else 3)
    assert hit.gate_open


def test_the_bar_after_a_bad_tick_is_judged_against_the_bar_before_it() -> None:
    verdicts = judge("MSFT", date(2005, 2, 25), with_(open=51.0, high=51.2, low=50.6, close=50.8))
    assert found(verdicts) == [("MSFT", "2005-02-25", f"{BETWEEN}:jump_frac")]


def test_two_bad_ticks_on_different_levels_both_fail() -> None:
    bars = plant(sample(FIRST, SPLIT), "MSFT", date(2005, 2, 24), with_(open=51.0, high=51.2, low=50.6, close=50.8))
    bars = plant(bars, "MSFT", date(2005, 2, 25), with_(open=5.1, high=5.12, low=5.06, close=5.08))
    assert [day for _, day, _ in found(validate(checks(bars), RULES))] == ["2005-02-24", "2005-02-25"]


def test_a_stale_repeat_fails_from_the_fifth_identical_bar_on_across_history() -> None:
    bars = sample(date(2005, 2, 7), SPLIT)
    stuck = next(bar for bar in bars if (bar.symbol, bar.session_date) == ("IBM", date(2005, 2, 14)))
    for day in XNYS.sessions_in_range(date(2005, 2, 15), date(2005, 2, 23)):
        bars = plant(
            bars, "IBM", day, lambda bar: [replace(stuck, session_date=bar.session_date, bar_end_at=bar.bar_end_at)]
        )
    fifth = ["2005-02-18", "2005-02-22", "2005-02-23"]
    for since in (date(2005, 2, 7), date(2005, 2, 17), date(2005, 2, 18)):
        verdicts = validate(checks(bars, since=since), RULES)
        assert [day for _, day, _ in found(verdicts)] == fifth, since
    assert {name for *_, name in found(verdicts)} == {f"{BETWEEN}:identical_bars"}


def test_a_day_that_is_no_session_fails() -> None:
    given = checks(sample(FIRST, SPLIT))
    given[-1] = replace(given[-1], is_session=False)
    verdicts = validate(given, RULES)
    assert {name for *_, name in found(verdicts)} == {"expect_column_values_to_be_in_set:is_session"}
    assert [v.gate_open for v in verdicts][-2:] == [True, False]


@pytest.mark.parametrize(
    "gone, rules, is_open, reason",
    [
        ((), RULES, True, "4 of 4 members due"),
        (("IBM",), RULES, True, "3 of 4 members due, missing IBM"),
        (
            ("IBM", "GOOG"),
            RULES,
            False,
            "2 of 4 members due, missing GOOG, IBM: coverage 50.0% is below 95.0% and 2 missing is more than 1",
        ),
        (("IBM", "GOOG"), Rules(min_coverage=0.5), True, "2 of 4 members due, missing GOOG, IBM"),
        (("IBM",), Rules(max_missing=0), False, "3 of 4 members due, missing IBM: coverage 75.0% is below 95.0%"),
        (SYMBOLS, RULES, False, "0 of 4 members due"),
    ],
)
def test_the_gate_closes_below_coverage_and_above_max_missing_together(
    gone: tuple[str, ...], rules: Rules, is_open: bool, reason: str
) -> None:
    bars = sample(FIRST, SPLIT)
    for symbol in gone:
        bars = plant(bars, symbol, date(2005, 2, 25), lambda bar: [])
    verdicts = {v.check.session_date: v for v in validate(checks(bars), rules)}
    verdict = verdicts[date(2005, 2, 25)]
    assert verdict.gate_open is is_open
    assert verdict.gate_reason.startswith(reason)
    assert verdict.missing == tuple(sorted(gone))
    assert verdict.coverage_frac == pytest.approx(1 - len(gone) / 4)
    assert all(v.gate_open for day, v in verdicts.items() if day != date(2005, 2, 25))


def test_bad_rows_close_the_gate_as_missing_rows_do() -> None:
    bars = plant(sample(FIRST, SPLIT), "IBM", SPLIT, with_(close=math.nan))
    bars = plant(bars, "MSFT", SPLIT, with_(high=0.01))
    verdict = validate(checks(bars, since=SPLIT), RULES)[-1]
    assert not verdict.gate_open
    assert verdict.missing == ("IBM", "MSFT")
    assert {row.symbol for row in verdict.failed_rows} == {"IBM", "MSFT"}


def test_a_session_without_any_row_and_one_without_members_are_judged() -> None:
    empty = SessionCheck(
        session_date=SPLIT, bar_end_at=XNYS.session(SPLIT).close_at, is_session=True, due=SYMBOLS, rows=()
    )
    (verdict,) = validate([empty], RULES)
    assert (verdict.gate_open, verdict.members_seen, verdict.coverage_frac) == (False, 0, 0.0)
    (verdict,) = validate([replace(empty, due=())], RULES)
    assert (verdict.gate_open, verdict.gate_reason) == (True, "no member is due")
    assert validate([], RULES) == []


def test_a_session_alone_is_judged_as_within_its_history() -> None:
    bars = plant(sample(FIRST, SPLIT), "IBM", SPLIT, with_(low=0.0))
    alone, within = validate(checks(bars, since=SPLIT), RULES), validate(checks(bars), RULES)
    assert alone[-1].content_hash == within[-1].content_hash
    assert [(f.expectation, f.message) for f in alone[-1].findings] == [
        (f.expectation, f.message) for f in within[-1].findings
    ]
    assert alone[-1].gate_reason == within[-1].gate_reason


def test_the_hash_is_of_the_content_whatever_its_order() -> None:
    (check,) = checks(sample(SPLIT, SPLIT), since=SPLIT)
    base = content_hash(check.rows, check.due)
    assert content_hash(check.rows[::-1], check.due[::-1]) == base
    changed = (replace(check.rows[0], close=check.rows[0].close + 0.0001), *check.rows[1:])
    assert content_hash(changed, check.due) != base
    assert content_hash((replace(check.rows[0], close=math.nan), *check.rows[1:]), check.due) != base
    assert content_hash(check.rows, check.due[:-1]) != base
    assert content_hash(check.rows[:-1], check.due) != base


def test_the_suites_version_names_its_limits() -> None:
    assert suite_version(RULES) == f"{validation.SUITE_VERSION}:0.95,1,0.4,5"
    assert suite_version(Rules(max_jump_frac=0.5)) != suite_version(RULES)


def test_a_hundred_thousand_rows_go_through_the_same_path() -> None:
    names = [f"S{i:03}" for i in range(400)]
    base = sample(date(2004, 2, 27), SPLIT, ("IBM",))
    bars = [replace(bar, symbol=name) for name in names for bar in base]
    bars = plant(bars, "S123", SPLIT, with_(low=-1.0))
    given = checks(bars, since=date(2004, 2, 27), symbols=names, actions=(), due=lambda day: names)
    assert sum(len(check.rows) for check in given) > 100_000
    verdicts = validate(given, RULES)
    assert found(verdicts) == [("S123", "2005-02-28", f"{BETWEEN}:low")]
    assert verdicts[-1].coverage_frac == pytest.approx(399 / 400)
    assert all(v.gate_open for v in verdicts)


def test_great_expectations_is_imported_by_the_run_alone_and_calls_nobody(tmp_path: Path) -> None:
    code = """
import socket, sys
from datetime import UTC, date, datetime
def refuse(*args, **kwargs): raise AssertionError(f"network: {args}")
from tradecore import validation
assert "great_expectations" not in sys.modules and "pandas" not in sys.modules
socket.socket.connect = refuse
socket.getaddrinfo = refuse
class Rules: min_coverage, max_missing, max_jump_frac, stale_repeat_bars = 0.95, 1, 0.4, 5
check = validation.SessionCheck(session_date=date(2005, 2, 28), bar_end_at=datetime(2005, 2, 28, 21, tzinfo=UTC),
                                is_session=True, due=("A", "B"), rows=())
print(validation.validate([check], Rules)[0].gate_open)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(SAMPLE.parent), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
    assert "Calculating" not in done.stderr, "no progress bars"
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize(
    ("change", "expectation"),
    [
        (with_(open=32.0, high=32.0, low=31.0, close=31.5), f"{BETWEEN}:large_move"),
        (with_(high=31.0), f"{BETWEEN}:range_frac"),
        (with_(volume=0.0), f"{BETWEEN}:moved_without_volume"),
    ],
)
def test_a_warning_takes_the_row_in_and_is_told(change: Change, expectation: str) -> None:
    verdicts = judge("MSFT", date(2005, 2, 25), change)
    assert found(verdicts) == [], "nothing is kept out"
    assert ("MSFT", "2005-02-25", expectation) in found(verdicts, "warn")
    hit = next(v for v in verdicts if v.check.session_date == date(2005, 2, 25))
    assert hit.warned_rows
    assert (hit.members_seen, hit.gate_open, hit.failed_rows) == (4, True, set())


def test_a_blocking_rule_closes_the_gate_whatever_the_coverage() -> None:
    given = checks(sample(FIRST, SPLIT))
    given[-1] = replace(given[-1], is_session=False, due=())
    verdict = validate(given, RULES)[-1]
    assert verdict.coverage_frac == 1.0
    assert not verdict.gate_open
    assert "Rule: a bar belongs to a session of the calendar" in verdict.gate_reason


def test_a_bar_of_a_delisted_name_is_kept_out() -> None:
    end = CorporateAction(
        symbol="IBM", ex_date=date(2005, 2, 25), kind="delisting", dividend_e6=91_000_000, source="csv"
    )
    actions = FEED.actions(SYMBOLS, date(2000, 1, 1), date(2013, 3, 1))
    verdicts = validate(checks(sample(FIRST, SPLIT), actions=[*actions, end]), RULES)
    listed = "expect_column_values_to_be_in_set:is_listed"
    assert found(verdicts) == [("IBM", "2005-02-25", listed), ("IBM", "2005-02-28", listed)]


def test_data_docs_are_the_librarys_page_without_what_it_fetches(tmp_path: Path) -> None:
    page = tmp_path / "csv" / "2005-02-28.html"
    bars = plant(sample(FIRST, SPLIT), "MSFT", SPLIT, with_(close=math.nan))
    made = []
    for _ in range(2):
        validate(checks(bars), RULES, page=page, title="csv 1d 2005-02-28")
        made.append(page.read_bytes())
    text = made[0].decode()
    assert made[0] == made[1], "the same data give the same bytes"
    for what in ("no value is missing", "Great Expectations", "csv 1d 2005-02-28", "block", "quarantine"):
        assert what in text, what
    assert not re.findall(r"""(?:src|href)=["']?https?:""", text)
    assert "@import" not in text
    assert "https:" not in text
    assert "2005-02-28.html" in (page.parent / "index.html").read_text()


def test_every_rule_says_what_its_failure_does() -> None:
    document = validation.suite_document(RULES)
    rules = [e for e in document["expectations"] if "rule" in (e.get("meta") or {})]
    theirs = {"block": "critical", "quarantine": "warning", "warn": "info"}
    assert {e["meta"]["severity"] for e in rules} == set(theirs)
    assert all(e["severity"] == theirs[e["meta"]["severity"]] for e in rules)
    assert len(rules) == 20
