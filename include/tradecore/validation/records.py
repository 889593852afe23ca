"""What goes into a validation and what comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, SupportsFloat


class Rules(Protocol):
    """The limits of the suite: the `validation` section of the settings has them.

    The gate closes when coverage is below min_coverage (a fraction) and more than max_missing members are
    missing. A price further than max_jump_frac from the adjusted previous close fails, and so does the
    last of stale_repeat_bars identical bars.
    """

    @property
    def min_coverage(self) -> SupportsFloat: ...
    @property
    def max_missing(self) -> int: ...
    @property
    def max_jump_frac(self) -> SupportsFloat: ...
    @property
    def stale_repeat_bars(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """One raw bar under test (USD floats, NaN and nonsense included) with what its checks need.

    dup_no is above 0 for a second line of the same bar. previous_close is the last close before it (USD, raw;
    None: the first bar), expected_ratio what corporate actions since then explain (1.0: nothing; 0.5: a 2:1
    split). repeats counts how many bars before it in a row have the same OHLCV.

    calm_close and calm_ratio are the same for the last bar before it that was no jump itself, given where
    that is another one: after a jump, a bar may agree with either side. So a bad tick fails alone, and a
    real move fails once and is confirmed by the bar after it. delisted_on: since when there should be no bar.
    """

    symbol: str
    session_date: date
    bar_end_at: datetime
    dup_no: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    previous_close: float | None
    expected_ratio: float
    repeats: int
    calm_close: float | None = None
    calm_ratio: float = 1.0
    delisted_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCheck:
    """The bars of one bar end, the symbols due there, and whether the calendar knows it."""

    session_date: date
    bar_end_at: datetime
    is_session: bool
    due: tuple[str, ...]
    rows: tuple[CheckRow, ...]


# What a failed expectation does: closes the gate of its bar end (and keeps the row out), keeps the row out, is told.
BLOCK, QUARANTINE, WARN = SEVERITIES = ("block", "quarantine", "warn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row that failed one expectation, such as 'expect_column_values_to_be_between:open'."""

    row: CheckRow
    expectation: str
    message: str
    severity: str = QUARANTINE


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionVerdict:
    """What the suite says of one bar end. Failing rows are not counted as seen."""

    check: SessionCheck
    findings: tuple[Finding, ...]
    members_due: int
    members_seen: int
    coverage_frac: float
    missing: tuple[str, ...]
    gate_open: bool
    gate_reason: str
    content_hash: str

    @property
    def failed_rows(self) -> set[CheckRow]:
        """The rows that are kept out: those with a finding that is more than a warning."""
        return {finding.row for finding in self.findings if finding.severity != WARN}

    @property
    def warned_rows(self) -> set[CheckRow]:
        """The rows that are taken in with a warning."""
        return {finding.row for finding in self.findings} - self.failed_rows


def content_hash(rows: Iterable[CheckRow], due: Iterable[str]) -> str:
    """Return the sha256 of canonical rows (prices as text to 1e-4, NaN as 'nan') and of the members due."""
    digest = hashlib.sha256("|".join(sorted(due)).encode())
    lines = [
        f"{r.symbol},{r.bar_end_at.isoformat()},{r.dup_no},{r.open:.4f},{r.high:.4f},{r.low:.4f},{r.close:.4f},"
        f"{r.volume:.0f},{r.expected_ratio:.9f}" + (f",{r.delisted_on}" if r.delisted_on else "")
        for r in rows
    ]
    for line in sorted(lines):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
