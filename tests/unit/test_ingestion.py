"""Corporate actions of one ex-date: what two records of a vendor become."""

from __future__ import annotations

from datetime import date

from tradecore.feeds.base import CorporateAction
from tradecore.ingestion import _one_a_day

EX = date(2004, 11, 15)


def dividend(amount_e6: int, pay: date | None = None) -> CorporateAction:
    return CorporateAction(symbol="MSFT", ex_date=EX, kind="dividend", dividend_e6=amount_e6, pay_date=pay, source="x")


def test_ordinary_and_special_dividend_add_up_and_a_copy_counts_once():
    (both,) = _one_a_day([dividend(80_000), dividend(3_000_000, date(2004, 12, 2)), dividend(80_000)])
    assert both == dividend(3_080_000, date(2004, 12, 2))


def test_splits_multiply_and_stay_apart_from_dividends():
    split = CorporateAction(symbol="MSFT", ex_date=EX, kind="split", ratio_num=2, ratio_den=1, source="x")
    other = CorporateAction(symbol="MSFT", ex_date=EX, kind="split", ratio_num=3, ratio_den=2, source="x")
    found = _one_a_day([split, dividend(80_000), other])
    assert {(a.kind, a.ratio_num, a.ratio_den, a.dividend_e6) for a in found} == {
        ("split", 6, 2, 0),
        ("dividend", 1, 1, 80_000),
    }
