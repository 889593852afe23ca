"""The suite in Great Expectations, and the gate. Imported by `validation.validate` alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
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
from tradecore.validation import docs
from tradecore.validation.expectations import PRICES, ROW, VALUES, expectations
from tradecore.validation.records import (
    BLOCK,
    WARN,
    CheckRow,
    Finding,
    Rules,
    SessionCheck,
    SessionVerdict,
    content_hash,
)

SUITE = "bars"
UNIQUE = "expect_compound_columns_to_be_unique:symbol,bar_end_ns"

Floats = npt.NDArray[np.float64]
Gate = tuple[tuple[str, ...], float]  # members missing, coverage


def run(
    checks: Sequence[SessionCheck], rules: Rules, page: Path | None = None, title: str = ""
) -> list[SessionVerdict]:
    """Judge five rows of one session or a whole history alike, and write a page of Data Docs. See
    `validation.validate`.

    Raises MalformedData where the rows do not have the expected form at all.
    """
    rows = [row for check in checks for row in check.rows]
    known = [check.is_session for check in checks for _ in check.rows]
    findings: dict[int, list[Finding]] = defaultdict(list)
    found = _validate(_columns(rows, known, float(rules.max_jump_frac)), expectations(rules))
    for result in found.results:
        if not result.success:
            _collect(result, rows, findings)
    if page is not None:
        docs.write(page, found, title=title, at=checks[-1].bar_end_at)
    bad = {number for number, these in findings.items() if any(f.severity != WARN for f in these)}
    gates = _gates(checks, bad)
    blocked = _blocked(checks, findings)
    closed = _closed(gates, rules) | set(blocked)
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
                gate_reason=blocked.get(number) or _reason(missing, coverage, len(check.due), number in closed, rules),
                content_hash=content_hash(check.rows, check.due),
            )
        )
    return verdicts


def suite_document(rules: Rules) -> dict[str, Any]:
    """Return the suite as Great Expectations writes it down."""
    return dict(gx.ExpectationSuite(name=SUITE, expectations=expectations(rules)).to_json_dict())


def _validate(columns: Mapping[str, Any], expected: list[Any]) -> Any:
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
    suite = gx.ExpectationSuite(name=SUITE, expectations=expected)
    result_format = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [ROW],
        "include_unexpected_rows": False,
    }
    return batch.validate(suite, result_format=result_format)


def _columns(rows: Sequence[CheckRow], known: Sequence[bool], max_jump: float) -> dict[str, Any]:
    """Return the table under test: a column per field and helper, and the numbers that findings refer to."""
    values: dict[str, Floats] = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in VALUES
    }
    previous = _jump(values, [(row.previous_close, row.expected_ratio) for row in rows])
    calm = _jump(values, [(row.calm_close, row.calm_ratio) for row in rows])
    jump = np.fmin(previous, calm)
    usable = (values["low"] > 0) & np.isfinite(values["high"])
    wide = np.where(usable, values["high"] / np.where(usable, values["low"], 1.0) - 1.0, math.nan)
    return {
        ROW: np.arange(len(rows)),
        "symbol": np.array([row.symbol for row in rows], dtype=object),
        "bar_end_ns": np.array([to_ns(row.bar_end_at) for row in rows], dtype=np.int64),
        **values,
        # fmax: a missing price is reported once, as missing
        "above": np.fmax(np.fmax(values["open"], values["low"]), values["close"]),
        "below": np.fmin(np.fmin(values["open"], values["high"]), values["close"]),
        "jump_frac": jump,
        "identical_bars": np.array([row.repeats + 1 for row in rows], dtype=np.int64),
        "is_session": np.array(known, dtype=bool),
        "is_listed": np.array([row.delisted_on is None for row in rows], dtype=bool),
        "large_move": np.where(jump <= max_jump, jump, math.nan),  # beyond it the row is kept out for it
        "range_frac": wide,
        "moved_without_volume": np.where(values["volume"] == 0, np.nan_to_num(wide), 0.0),
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
        severity = config.meta["severity"]
        findings[number].append(Finding(row=row, expectation=name, message=message, severity=severity))


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


def _blocked(checks: Sequence[SessionCheck], findings: Mapping[int, Sequence[Finding]]) -> dict[int, str]:
    """Return why the gate of a check closes whatever its coverage: its first finding that blocks."""
    out: dict[int, str] = {}
    row = 0
    for number, check in enumerate(checks):
        for _ in check.rows:
            for finding in findings.get(row, ()):
                if finding.severity == BLOCK:
                    out.setdefault(number, finding.message)
            row += 1
    return out


def _gates(checks: Sequence[SessionCheck], bad: Collection[int]) -> list[Gate]:
    """Return per check which members due have no good bar, and the share of those that have one."""
    gates: list[Gate] = []
    number = 0
    for check in checks:
        seen = set()
        for row in check.rows:
            if number not in bad:
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
    (result,) = _validate(columns, [gate]).results
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
