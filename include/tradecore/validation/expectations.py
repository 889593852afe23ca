"""The suite as code: one expectation of Great Expectations a rule, each with what its failure does.

    block       no decision at this bar end: the gate closes, and the row is kept out
    quarantine  the row is kept out; enough of them close the gate (coverage)
    warn        the row is taken in, and a person is told

In Great Expectations' own words (which its Data Docs show): critical, warning, info.
"""

from __future__ import annotations

from typing import Any

import great_expectations.expectations as gxe

from tradecore.validation.records import BLOCK, QUARANTINE, WARN, Rules

ROW = "row"
PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
KEYS = ("symbol", "bar_end_ns")
HELPERS = (
    "above",
    "below",
    "jump_frac",
    "identical_bars",
    "is_session",
    "is_listed",
    "large_move",
    "range_frac",
    "moved_without_volume",
)
# Beyond these a value is a mistake and no market, though int64 quanta would hold it.
MAX_PRICE_USD = 10_000_000.0
MAX_VOLUME = 1e15
WARN_PART = 0.5  # of max_jump_frac: a move beyond it is told
IN_THEIR_WORDS = {BLOCK: "critical", QUARANTINE: "warning", WARN: "info"}


def expectations(rules: Rules) -> list[Any]:
    """Return the expectations of a row: form, values, keys, session, repeats, jumps; then what is only told."""
    return [*_form(), *_values(), *_keys(), *_history(rules), *_warnings(rules)]


def _rule(text: str, *fields: str, severity: str = QUARANTINE) -> dict[str, Any]:
    """Return what an expectation carries of a rule: its words, what a finding shows, and what its failure does."""
    meta = {"rule": text, "fields": list(fields), "severity": severity}
    return {"meta": meta, "notes": f"{severity}: {text}", "severity": IN_THEIR_WORDS[severity]}


def _form() -> list[Any]:
    form = [ROW, *KEYS, *VALUES, *HELPERS]
    types = [gxe.ExpectColumnValuesToBeOfType(column=column, type_="float64") for column in VALUES]
    return [gxe.ExpectTableColumnsToMatchSet(column_set=form, exact_match=True), *types]


def _values() -> list[Any]:
    suite: list[Any] = [
        gxe.ExpectColumnValuesToNotBeNull(column=column, **_rule("no value is missing", column)) for column in VALUES
    ]
    for column in PRICES:
        rule = _rule(f"a price is above 0 and at most {MAX_PRICE_USD:,.0f} USD", column)
        suite.append(
            gxe.ExpectColumnValuesToBeBetween(
                column=column, min_value=0, strict_min=True, max_value=MAX_PRICE_USD, **rule
            )
        )
    rule = _rule(f"volume is 0 or more and at most {MAX_VOLUME:.0e} shares", "volume")
    suite.append(gxe.ExpectColumnValuesToBeBetween(column="volume", min_value=0, max_value=MAX_VOLUME, **rule))
    for upper, lower, text in (
        ("high", "above", "high is at or above open, low and close"),
        ("below", "low", "low is at or below open, high and close"),
    ):
        suite.append(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A=upper,
                column_B=lower,
                or_equal=True,
                ignore_row_if="either_value_is_missing",
                **_rule(text, *PRICES),
            )
        )
    return suite


def _keys() -> list[Any]:
    rule = _rule("a symbol has one bar per bar end", "dup_no", *VALUES)
    session = _rule("a bar belongs to a session of the calendar", "session_date", severity=BLOCK)
    listed = _rule("a name that was delisted has no bars", "session_date", "delisted_on")
    return [
        gxe.ExpectCompoundColumnsToBeUnique(column_list=list(KEYS), **rule),
        gxe.ExpectColumnValuesToBeInSet(column="is_session", value_set=[True], **session),
        gxe.ExpectColumnValuesToBeInSet(column="is_listed", value_set=[True], **listed),
    ]


def _history(rules: Rules) -> list[Any]:
    jump, repeat = float(rules.max_jump_frac), int(rules.stale_repeat_bars)
    repeats = _rule(f"fewer than {repeat} identical bars come in a row", "repeats", *VALUES)
    text = f"prices are within {jump:.0%} of the adjusted previous close unless a corporate action explains it"
    jumps = _rule(text, "previous_close", "expected_ratio", *PRICES)
    return [
        gxe.ExpectColumnValuesToBeBetween(column="identical_bars", max_value=repeat - 1, **repeats),
        gxe.ExpectColumnValuesToBeBetween(column="jump_frac", max_value=jump, **jumps),
    ]


def _warnings(rules: Rules) -> list[Any]:
    limit = float(rules.max_jump_frac) * WARN_PART
    move = _rule(
        f"prices are within {limit:.0%} of the adjusted previous close",
        "previous_close",
        "expected_ratio",
        *PRICES,
        severity=WARN,
    )
    wide = _rule(f"high is at most {limit:.0%} above low", "high", "low", severity=WARN)
    silent = _rule("prices that move have volume", "volume", "high", "low", severity=WARN)
    return [
        gxe.ExpectColumnValuesToBeBetween(column="large_move", max_value=limit, **move),
        gxe.ExpectColumnValuesToBeBetween(column="range_frac", max_value=limit, **wide),
        gxe.ExpectColumnValuesToBeBetween(column="moved_without_volume", max_value=0, **silent),
    ]
