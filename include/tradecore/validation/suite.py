"""The suite in Great Expectations, and the gate. Imported by `validation.validate` alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import numpy.typing as npt
import pandas as pd
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from tradecore.errors import MalformedData
from tradecore.units import to_ns
from tradecore.validation.records import CheckRow, Finding, Rules, SessionCheck, SessionVerdict, content_hash

ROW = "row"
PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
KEYS = ("symbol", "bar_end_ns")
HELPERS = ("above", "below", "jump_frac", "identical_bars", "is_session")
UNIQUE = "expect_compound_columns_to_be_unique:symbol,bar_end_ns"
# Beyond these a value is a mistake and no market, though int64 quanta would hold it.
MAX_PRICE_USD = 10_000_000.0
MAX_VOLUME = 1e15

Floats = npt.NDArray[np.float64]
Gate = tuple[tuple[str, ...], float]  # members missing, coverage


def run(checks: Sequence[SessionCheck], rules: Rules) -> list[SessionVerdict]:
    """Judge five rows of one session or a whole history alike. See `validation.validate`.

    Raises MalformedData where the rows do not have the expected form at all.
    """
    rows = [row for check in checks for row in check.rows]
    known = [check.is_session for check in checks for _ in check.rows]
    findings: dict[int, list[Finding]] = defaultdict(list)
    for result in _validate(_columns(rows, known), _suite(rules)):
        if not result.success:
            _collect(result, rows, findings)
    gates = _gates(checks, findings)
    closed = _closed(gates, rules)
    verdicts, start = [], 0
    for number, (check, (missing, coverage)) in enumerate(zip(checks, gates, strict=True)):
        numbers = range(start, start + len(check.rows))
        start += len(check.rows)
        verdicts.append(
            SessionVerdict(
                check=check,
                findings=tuple(finding for i in numbers for finding in findings.get(i, ())),
                members_due=len(check.due),
                members_seen=len(check.due) - len(missing),
                coverage_frac=coverage,
                missing=missing,
                gate_open=number not in closed,
                gate_reason=_reason(missing, coverage, len(check.due), number in closed, rules),
                content_hash=content_hash(check.rows, check.due),
            )
        )
    return verdicts


def _validate(columns: Mapping[str, Any], expectations: list[Any]) -> list[Any]:
    """Run expectations over columns, in a context in memory that writes, draws and reports nothing."""
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("tradecore").add_dataframe_asset("bars")
    frame = pd.DataFrame(dict(columns))
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name="tradecore", expectations=expectations)
    result_format = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [ROW],
        "include_unexpected_rows": False,
    }
    return list(batch.validate(suite, result_format=result_format).results)


def _columns(rows: Sequence[CheckRow], known: Sequence[bool]) -> dict[str, Any]:
    """Return the table under test: a column per field and helper, and the numbers that findings refer to."""
    values: dict[str, Floats] = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in VALUES
    }
    previous = _jump(values, [(row.previous_close, row.expected_ratio) for row in rows])
    calm = _jump(values, [(row.calm_close, row.calm_ratio) for row in rows])
    return {
        ROW: np.arange(len(rows)),
        "symbol": np.array([row.symbol for row in rows], dtype=object),
        "bar_end_ns": np.array([to_ns(row.bar_end_at) for row in rows], dtype=np.int64),
        **values,
        # fmax: a missing price is reported once, as missing
        "above": np.fmax(np.fmax(values["open"], values["low"]), values["close"]),
        "below": np.fmin(np.fmin(values["open"], values["high"]), values["close"]),
        "jump_frac": np.fmin(previous, calm),
        "identical_bars": np.array([row.repeats + 1 for row in rows], dtype=np.int64),
        "is_session": np.array(known, dtype=bool),
    }


def _jump(values: Mapping[str, Floats], closes: Sequence[tuple[float | None, float]]) -> Floats:
    """Return the largest |price / adjusted close - 1| of the four prices; NaN where none can be compared."""
    base = np.array([math.nan if close is None else close * ratio for close, ratio in closes], dtype=np.float64)
    base[~(np.isfinite(base) & (base > 0))] = math.nan
    jump = np.full(base.size, math.nan)
    for name in PRICES:
        usable = np.isfinite(values[name]) & (values[name] > 0)
        jump = np.fmax(jump, np.abs(np.where(usable, values[name], math.nan) / base - 1))
    return jump


def _suite(rules: Rules) -> list[Any]:
    """Return the expectations of a row: form, values, keys, session, repeats, jumps."""
    jump, repeat = float(rules.max_jump_frac), int(rules.stale_repeat_bars)
    form = [ROW, *KEYS, *VALUES, *HELPERS]
    suite: list[Any] = [gxe.ExpectTableColumnsToMatchSet(column_set=form, exact_match=True)]
    for column in VALUES:
        suite.append(gxe.ExpectColumnValuesToBeOfType(column=column, type_="float64"))
        rule = _rule("no value is missing", column)
        suite.append(gxe.ExpectColumnValuesToNotBeNull(column=column, meta=rule))
    for column in PRICES:
        rule = _rule(f"a price is above 0 and at most {MAX_PRICE_USD:,.0f} USD", column)
        suite.append(
            gxe.ExpectColumnValuesToBeBetween(
                column=column, min_value=0, strict_min=True, max_value=MAX_PRICE_USD, meta=rule
            )
        )
    rule = _rule(f"volume is 0 or more and at most {MAX_VOLUME:.0e} shares", "volume")
    suite.append(gxe.ExpectColumnValuesToBeBetween(column="volume", min_value=0, max_value=MAX_VOLUME, meta=rule))
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
                meta=_rule(text, *PRICES),
            )
        )
    rule = _rule("a symbol has one bar per bar end", "dup_no", *VALUES)
    suite.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=list(KEYS), meta=rule))
    rule = _rule("a bar belongs to a session of the calendar", "session_date")
    suite.append(gxe.ExpectColumnValuesToBeInSet(column="is_session", value_set=[True], meta=rule))
    rule = _rule(f"fewer than {repeat} identical bars come in a row", "repeats", *VALUES)
    suite.append(gxe.ExpectColumnValuesToBeBetween(column="identical_bars", max_value=repeat - 1, meta=rule))
    text = f"prices are within {jump:.0%} of the adjusted previous close unless a corporate action explains it"
    rule = _rule(text, "previous_close", "expected_ratio", *PRICES)
    suite.append(gxe.ExpectColumnValuesToBeBetween(column="jump_frac", max_value=jump, meta=rule))
    return suite


def _rule(text: str, *fields: str) -> dict[str, Any]:
    return {"rule": text, "fields": list(fields)}


def _collect(result: Any, rows: Sequence[CheckRow], findings: dict[int, list[Finding]]) -> None:
    """Add what one failed expectation found to its rows. Raises MalformedData if it is about the form."""
    config, found = result.expectation_config, result.result or {}
    if "unexpected_index_list" not in found:
        raise MalformedData(
            f"The rows to validate do not have the expected form: {config.type}, {result.exception_info}.",
            next_step="Report it with this message: the suite and its table disagree.",
            expectation=config.type,
        )
    name = f"{config.type}:{_columns_of(config.kwargs)}"
    failed = [int(place[ROW]) for place in found["unexpected_index_list"]]
    for number in _without_first_copies(rows, failed) if name == UNIQUE else failed:
        row = rows[number]
        shown = ", ".join(f"{field} {_text(getattr(row, field))}" for field in config.meta["fields"])
        message = f"{row.symbol} {row.session_date}: {shown}. Rule: {config.meta['rule']}."
        findings[number].append(Finding(row=row, expectation=name, message=message))


def _columns_of(kwargs: Mapping[str, Any]) -> str:
    if "column_list" in kwargs:
        return ",".join(kwargs["column_list"])
    return str(kwargs.get("column") or f"{kwargs['column_A']},{kwargs['column_B']}")


def _without_first_copies(rows: Sequence[CheckRow], failed: Sequence[int]) -> list[int]:
    """Spare the first of copies that agree in every value; where they differ nobody knows which is right."""
    copies: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number in sorted(failed):
        copies[rows[number].symbol, to_ns(rows[number].bar_end_at)].append(number)
    bad: list[int] = []
    for numbers in copies.values():
        values = {tuple(getattr(rows[n], name) for name in VALUES) for n in numbers}
        bad.extend(numbers[1:] if len(values) == 1 else numbers)
    return bad


def _text(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.10g}"
    return "none" if value is None else str(value)


def _gates(checks: Sequence[SessionCheck], findings: Mapping[int, object]) -> list[Gate]:
    """Return per check which members due have no good bar, and the share of those that have one."""
    gates: list[Gate] = []
    number = 0
    for check in checks:
        seen = set()
        for row in check.rows:
            if number not in findings:
                seen.add(row.symbol)
            number += 1
        missing = tuple(symbol for symbol in sorted(check.due) if symbol not in seen)
        gates.append((missing, 1 - len(missing) / len(check.due) if check.due else 1.0))
    return gates


def _closed(gates: Sequence[Gate], rules: Rules) -> set[int]:
    """Return which checks fail the gate's expectation: members missing where coverage is too low."""
    counted = [len(missing) if coverage < float(rules.min_coverage) else 0 for missing, coverage in gates]
    columns = {ROW: np.arange(len(gates)), "missing_below_coverage": np.array(counted, dtype=np.int64)}
    gate = gxe.ExpectColumnValuesToBeBetween(column="missing_below_coverage", max_value=rules.max_missing)
    (result,) = _validate(columns, [gate])
    return {int(place[ROW]) for place in (result.result or {}).get("unexpected_index_list") or ()}


def _reason(missing: tuple[str, ...], coverage: float, due: int, closed: bool, rules: Rules) -> str:
    if not due:
        return "no member is due"
    names = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
    counted = f"{due - len(missing)} of {due} members due" + (f", missing {names}" if missing else "")
    if not closed:
        return counted
    limit = f"coverage {coverage:.1%} is below {float(rules.min_coverage):.1%}"
    return f"{counted}: {limit} and {len(missing)} missing is more than {rules.max_missing}"
