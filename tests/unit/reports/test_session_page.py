"""The page: the same bytes for the same data, nothing fetched, nothing lost, and sums that are sums."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from report_example import ACCOUNT, BAR_END, D, account, candles, order, report

from page_parts import Page
from tradecore.report_model import (
    Candle,
    DifferenceLine,
    Entry,
    EquityPoint,
    EventLine,
    FillLine,
    LimitLine,
    NameChart,
    OrderStep,
    PositionLine,
    QuarantineLine,
    SignalLine,
    Signature,
    StateChange,
    StrategyLine,
    TargetLine,
)
from tradecore.reports import charts, formats, metrics
from tradecore.reports.attention import attention
from tradecore.reports.changes import contributions
from tradecore.reports.happened import event_text, limit_text
from tradecore.reports.session_report import render

FIRST_BAR = {
    "equity": report().equity[-1:],
    "previous_account": None,
    "previous_session_date": None,
    "positions": (),
    "fills": (),
    "worked": (),
    "charts": (),
}
CLOSED = {
    "quality": replace(report().quality, gate_open=False, gate_reason="1 of 2 members due", members_seen=1),  # type: ignore[type-var]
    "sheet": (),
    "signals": (),
    "targets": (),
    "strategies": (),
    "next_bar_end_at": None,
    "turnover_frac": None,
    "outcome": "settled, no decision",
}


@pytest.mark.parametrize("changes", [{}, FIRST_BAR, CLOSED], ids=["plain", "first bar", "gate closed"])
def test_page_is_whole_and_fetches_nothing(changes: dict[str, object]) -> None:
    html = render(report(**changes))
    page = Page(html)
    page.assert_fetches_nothing()
    for heading in (
        "Equity and drawdown",
        "What changed",
        "Positions against limits",
        "Signals",
        "Order sheet",
        "Fills",
        "Data quality",
    ):
        assert heading in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_same_data_gives_the_same_bytes_in_another_process_language_and_time_zone() -> None:
    program = (
        "import hashlib; from report_example import report; from tradecore.reports.session_report import render;"
        "print(hashlib.sha256(render(report()).encode()).hexdigest())"
    )
    paths = [str(Path(formats.__file__).parents[2]), str(Path(__file__).parent)]
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONHASHSEED": seed,
                "TZ": zone,
                "LC_ALL": lang,
            },
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
        ).stdout
        for seed, zone, lang in (("1", "UTC", "C"), ("2", "Asia/Tokyo", "C.UTF-8"))
    }
    assert len(digests) == 1


def test_a_changed_number_changes_the_page() -> None:
    assert render(report()) != render(report(account=account(realised_usd=D("0.01"))))


def test_markup_in_the_data_is_text_on_the_page() -> None:
    nasty = "<script>alert(1)</script>"
    html = render(
        report(
            strategies=(StrategyLine(name=nasty, ok=False, error=nasty, threshold=None),),
            quarantine=(QuarantineLine(symbol=nasty, expectation=nasty, message=nasty, record=nasty),),
            charts=(candles(symbol='"><script>'),),
        )
    )
    assert "<script" not in html
    Page(html)


def test_the_addendum_shows_what_became_of_the_sheet_and_the_first_report_does_not() -> None:
    assert "<th>Status</th>" not in render(report())
    sent = render(report(sheet=(order(status="NOT_SENT", status_detail="window_passed"),)))
    assert "not sent" in sent
    assert "window_passed" in sent


# --- changes ---


def test_contributions_sum_to_the_change_of_equity() -> None:
    found = {line.label: line.amount_usd for line in contributions(report())}
    assert found == {"Dividends": D(50), "Fees": D("-3.50")}
    assert sum(found.values()) == D("46.50")


def test_a_position_closed_this_session_and_a_deposit_are_in_the_sum() -> None:
    closed = PositionLine(
        symbol="MSFT",
        qty_shares=D(0),
        mark_usd=D(26),
        value_usd=D(0),
        cost_usd=D(0),
        previous_qty_shares=D(10),
        previous_value_usd=D(250),
        traded_usd=D(-262),
        stale_bars=0,
    )
    now = report(
        positions=(*report().positions, closed),
        account=account(equity_usd=ACCOUNT.equity_usd + 12 + 1000 + D("0.25")),
        flow_usd=D(1000),
    )
    found = {line.label: line.amount_usd for line in contributions(now)}
    assert found["MSFT"] == D(12)
    assert found["Deposits"] == D(1000)
    assert found["Cash in lieu"] == D("0.25")
    assert now.previous_account is not None
    assert sum(found.values()) == now.account.equity_usd - now.previous_account.equity_usd


def test_slippage_is_a_cost_on_both_sides() -> None:
    bought = report().fills[0]
    assert (bought.slippage_usd, bought.shortfall_usd) == (D(10), D(150))
    assert bought.slippage_bps == pytest.approx(D("19.646"), abs=D("0.001"))
    sold = FillLine(
        symbol="X",
        qty_shares=D(-100),
        price_usd=D("50.80"),
        open_price_usd=D("50.90"),
        ref_price_usd=D("50.80"),
        fee_usd=D(0),
    )
    assert sold.slippage_usd == D(10)
    assert sold.slippage_bps is not None
    assert sold.slippage_bps > 0
    assert sold.shortfall_usd == 0


# --- what needs a person ---


def test_a_plain_session_needs_nobody() -> None:
    assert attention(report()) == ()
    assert "Nothing needs a person" in render(report())


@pytest.mark.parametrize(
    ("changes", "severity", "said"),
    [
        ({"account": account(trading_state="HALTED", state_sessions=2)}, "critical", "halted"),
        ({"account": account(trading_state="REDUCING")}, "warning", "only reduces"),
        ({"account": account(cash_usd=D("-0.01"))}, "error", "−$0.01"),
        ({"quality": None}, "error", "not validated"),
        (CLOSED, "error", "1 of 2 members due"),
        ({"worked": (order(status="UNKNOWN", status_detail="timeout"),)}, "critical", "unknown (timeout)"),
        ({"sheet": (order(status="REJECTED"),)}, "error", "rejected"),
        ({"worked": (order(status="NOT_SENT"),)}, "warning", "not sent"),
        ({"approval_required": True}, "warning", "waits for approval"),
        ({"positions": (replace(report().positions[0], stale_bars=3),)}, "warning", "no bar for 3 sessions"),
        ({"positions": (replace(report().positions[0], value_usd=D(17000)),)}, "warning", "above the position limit"),
        (
            {"strategies": (StrategyLine(name="bad", ok=False, error="ZeroDivisionError", threshold=None),)},
            "error",
            "Strategy bad failed: ZeroDivisionError",
        ),
        (
            {"quarantine": (QuarantineLine(symbol="A", expectation="e", message="m", record="r"),) * 2},
            "warning",
            "1 row kept out",
        ),
    ],
)
def test_what_needs_a_person_is_named_with_its_next_step(changes: dict[str, object], severity: str, said: str) -> None:
    found = attention(report(**changes))
    assert [item.severity for item in found if said in item.what] == [severity]
    assert all(item.next_step for item in found)
    assert "Needs a person" in render(report(**changes))


@pytest.mark.parametrize("state", ["REDUCING", "HALTED"])
def test_what_a_person_ordered_says_who_lifts_it(state: str) -> None:
    (found,) = attention(report(account=account(trading_state=state, ordered_state=state)))
    assert "tradecore resume" in found.next_step
    assert "lifts_after" not in found.next_step


def test_the_worst_comes_first() -> None:
    found = attention(report(account=account(trading_state="HALTED"), approval_required=True, quality=None))
    assert [item.severity for item in found] == ["critical", "error", "warning"]


def test_an_approved_sheet_waits_for_nobody() -> None:
    assert attention(report(approval_required=True, verdict="approved")) == ()


def test_a_real_venue_shows_window_signature_order_life_and_differences() -> None:
    opens, closes = datetime(2005, 3, 2, 0, 0, tzinfo=UTC), datetime(2005, 3, 2, 14, 27, tzinfo=UTC)
    life = (("PLANNED", ""), ("APPROVED", "by airflow:ann"), ("SUBMITTING", ""), ("ACKED", "b-1"))
    shown = report(
        window=(opens, closes),
        signature=Signature(verdict="approved", actor="airflow:ann", decided_at=opens, note="as agreed"),
        steps=tuple(
            OrderStep(symbol="AAPL", client_order_id="tc-1", status=status, happened_at=opens, detail=detail)
            for status, detail in life
        ),
        differences=(
            DifferenceLine(kind="cash", subject="USD", amount=D("-1.5"), detail="a dividend", explained=True),
            DifferenceLine(kind="position", subject="IBM", amount=D(2), detail="a fill not seen", explained=False),
        ),
    )
    text = " ".join(re.sub(r"<[^>]+>", " ", render(shown)).split())
    assert "May be sent from 2005-03-02 00:00 UTC to 2005-03-02 14:27 UTC. approved by airflow:ann" in text
    assert "planned 02 00:00:00 → approved 02 00:00:00 by airflow:ann → submitting" in text
    assert "USD cash −1.5: a dividend explained" in text
    (found,) = attention(shown)
    assert (found.severity, found.what) == ("error", "Ledger and broker differ: position IBM, +2. a fill not seen")


def test_every_event_of_the_kernels_has_a_sentence() -> None:
    from tradecore.model import DECISION_EVENTS, EVENT_NAMES

    for number, name in enumerate(EVENT_NAMES):
        if number in DECISION_EVENTS:
            text = limit_text(LimitLine(rule=name, symbol="A", before_value=3, after_value=1, detail=""))
        else:
            text = event_text(EventLine(kind=name, symbol="A", amount=10_000, detail="before 0"))
            assert "before" not in text
        assert text or name == "state"
    assert event_text(EventLine(kind="dividend", symbol="A", amount=488_000, detail="")) == "dividend of $48.80"
    assert event_text(EventLine(kind="split", symbol="A", amount=176_000_000, detail="")) == "split: 176 shares now"
    capped = LimitLine(rule="name_cap", symbol="A", before_value=171_000, after_value=150_000, detail="")
    assert limit_text(capped) == "position limit: 17.10 % asked for, 15.00 % allowed"


def test_a_state_change_is_shown_with_actor_and_reason() -> None:
    change = StateChange(from_state="ACTIVE", to_state="HALTED", actor="breaker", reason="drawdown of 15 %")
    assert "ACTIVE → HALTED" in render(report(state_changes=(change,)))


# --- many names, many sessions ---


def test_of_many_names_only_those_with_something_to_say_are_listed() -> None:
    symbols = [f"N{k:03d}" for k in range(500)]
    html = render(
        report(
            signals=tuple(SignalLine(strategy="ma_crossover", symbol=s, score=0.0) for s in symbols),
            targets=tuple(
                TargetLine(symbol=s, weight_frac=D(0), qty_shares=D(int(k == 7)), ref_price_usd=D(1), has_opinion=True)
                for k, s in enumerate(symbols)
            ),
        )
    )
    assert "N007" in html
    assert "N008" not in html
    assert "499 more names" in html


def test_a_long_curve_is_thinned_without_losing_its_extremes() -> None:
    n = 6000
    days = [date(1990, 1, 1) + timedelta(days=k) for k in range(n)]
    values = [100_000 + (k * 7919) % 1000 for k in range(n)]
    values[1234], values[4321] = 250_000, 30_000
    points = [
        EquityPoint(session_date=d, equity_usd=Decimal(v), flow_usd=D(0)) for d, v in zip(days, values, strict=True)
    ]
    drawdown = metrics.drawdowns(metrics.simple_returns(np.array(values, dtype=np.float64)))
    kept = charts._thin(np.array(values, dtype=np.float64), drawdown)
    assert len(kept) < 1000
    assert {0, 1234, 4321, n - 1} <= set(kept.tolist())
    assert len(charts.equity_chart(points, drawdown, width=1040, height=320)) < 60_000


def test_candles_put_both_sides_of_a_split_on_one_scale() -> None:
    """AAPL on 2005-02-25 and 2005-02-28: 88.99 before the 2:1 split, 44.86 after it (sample_data)."""
    ends = (BAR_END - timedelta(days=4), BAR_END - timedelta(days=1))
    chart = NameChart(
        symbol="AAPL",
        candles=(
            Candle(
                bar_end_at=ends[0],
                session_date=ends[0].date(),
                open_usd=D("89.62"),
                high_usd=D("89.91"),
                low_usd=D("88.19"),
                close_usd=D("88.99"),
                volume=32_696_700,
                adj_factor=1.0,
            ),
            Candle(
                bar_end_at=ends[1],
                session_date=ends[1].date(),
                open_usd=D("44.68"),
                high_usd=D("45.13"),
                low_usd=D("43.96"),
                close_usd=D("44.86"),
                volume=23_271_800,
                adj_factor=2.0,
            ),
        ),
        entries=(Entry(bar_end_at=ends[0], qty_shares=D(10), price_usd=D("89.64")),),
    )
    svg = charts.candle_chart(chart, width=420, height=240)
    ticks = [float(text) for text in re.findall(r">(\d+\.\d+)</text>", svg)]
    assert ticks
    assert max(ticks) < 46
    assert min(ticks) > 43


def test_a_name_without_bars_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="no bars"):
        charts.candle_chart(NameChart(symbol="X", candles=(), entries=()), width=420, height=240)


def test_a_single_bar_and_a_flat_price_are_drawn() -> None:
    bar = replace(candles(1).candles[0], open_usd=D(5), high_usd=D(5), low_usd=D(5), close_usd=D(5), volume=0)
    assert charts.candle_chart(NameChart(symbol="X", candles=(bar,), entries=()), width=420, height=240)


# --- numbers ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.usd(D("-1234.5")), "−$1,234.50"),
        (formats.usd(D("-0.001")), "$0.00"),
        (formats.signed_usd(D("0.004")), "$0.00"),
        (formats.signed_usd(D(2)), "+$2.00"),
        (formats.shares(D("1200.000000")), "1,200"),
        (formats.shares(D("0.5")), "0.5"),
        (formats.shares(D("1E+3")), "1,000"),
        (formats.signed_shares(D(-16)), "−16"),
        (formats.percent(D("0.15325")), "15.33 %"),
        (formats.signed_percent(D("-0.00001")), "0.00 %"),
        (formats.percent(float("nan")), "–"),
        (formats.bps(D("19.65")), "+19.7"),
        (formats.bps(D("-0.04")), "0.0"),
        (formats.ratio(-1.234), "−1.23"),
        (formats.day(date(2004, 9, 1)), "Wed 1 Sep 2004"),
        (formats.words("dividend_paid_on_ex_date"), "dividend paid on ex date"),
    ],
)
def test_numbers_read_as_people_write_them(text: str, expected: str) -> None:
    assert text == expected


def test_a_report_whose_curve_ends_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="does not end"):
        report(session_date=date(2005, 3, 2))
