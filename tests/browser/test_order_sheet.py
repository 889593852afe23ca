"""An order sheet in Airflow's own pages: under Required Actions a person reads it, and approves or rejects it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from airflow_pages import Airflow
from playwright.sync_api import expect
from stack_fixture import SAMPLE_END, LiveStack
from test_approval_stack import BOOK, DAG, LABELS, closed_now, orders, sheet, start
from test_approval_stack import live as live

from native_stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def stack(live: LiveStack) -> Stack:
    """The stack whose sheets a person signs, in the place of the other pages' one."""
    return live.stack


@pytest.fixture(scope="module")
def waiting(live: LiveStack) -> str:
    """A run that waits for a person."""
    return start(live, SAMPLE_END)


def test_a_viewer_reads_the_sheet_and_cannot_sign_it(visitor: Airflow, live: LiveStack, waiting: str) -> None:
    visitor.log_in("viewer", live.stack.passwords["viewer"])
    visitor.arrives()
    page = visitor.required_action(BOOK)
    expect(page.get_by_text(sheet(live, SAMPLE_END)[0])).to_be_visible()
    with visitor.page.expect_response(re.compile("hitlDetails$")) as answered:
        visitor.answer("Approve")
    assert (answered.value.request.method, answered.value.status) == ("PATCH", 403)
    assert sheet(live, SAMPLE_END)[1] == ""
    assert orders(live, SAMPLE_END) == {"PLANNED"}


def test_what_is_read_is_what_is_sent_once_it_is_approved(airflow: Airflow, live: LiveStack, waiting: str) -> None:
    page = airflow.required_action(BOOK)
    signed = sheet(live, SAMPLE_END)[0]
    expect(page.get_by_text(signed)).to_be_visible()
    lines = live.query(
        "SELECT s.symbol, o.order_qty_e6 / 1000000 FROM tradecore.orders o"
        " JOIN tradecore.instrument_symbols s USING (instrument_id) WHERE o.book = %s", BOOK,
    )  # fmt: skip
    assert lines, "not exercised: a sheet without orders"
    for symbol, qty in lines:
        row = page.get_by_role("row").filter(has=airflow.page.get_by_role("cell", name=symbol, exact=True))
        expect(row).to_contain_text("Buy" if qty > 0 else "Sell")
        expect(row).to_contain_text(f"{abs(qty):,}")
    for limit in ("Gross exposure", "Largest position", "Turnover"):
        expect(page.get_by_role("cell", name=limit, exact=True)).to_be_visible()
    airflow.shot("order_sheet")
    airflow.answer("Approve", reason="as agreed")
    airflow.run_ends(DAG, waiting, "success")
    assert sheet(live, SAMPLE_END) == (signed, "approved", "airflow:admin", "as agreed")
    assert orders(live, SAMPLE_END) == {"ACKED"}


def test_what_is_rejected_is_not_sent(airflow: Airflow, live: LiveStack) -> None:
    closed_now(live, datetime.now(UTC))
    run = start(live, LABELS[0])
    page = airflow.required_action(BOOK)
    expect(page.get_by_text(sheet(live, LABELS[0])[0])).to_be_visible()
    airflow.answer("Reject", reason="too much")
    airflow.run_ends(DAG, run, "success")
    assert sheet(live, LABELS[0])[1:] == ("rejected", "airflow:admin", "too much")
    assert orders(live, LABELS[0]) == {"NOT_SENT"}
