"""Stage 2: is this data fit to trade on? The suite (Great Expectations), its findings, and the gate.

`validate` is what the pipeline calls (tradecore/validating.py); its records are defined in records.py, the
suite in suite.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tradecore.validation.history import check_rows
from tradecore.validation.records import (
    BLOCK,
    QUARANTINE,
    WARN,
    CheckRow,
    Finding,
    Rules,
    SessionCheck,
    SessionVerdict,
    content_hash,
)

# Raise it whenever a rule of the suite changes: what an older suite has judged is judged again.
SUITE_VERSION = "bars-2"

__all__ = [
    "BLOCK",
    "QUARANTINE",
    "SUITE_VERSION",
    "WARN",
    "CheckRow",
    "Finding",
    "Rules",
    "SessionCheck",
    "SessionVerdict",
    "check_rows",
    "content_hash",
    "suite_document",
    "suite_version",
    "validate",
]


def suite_version(rules: Rules) -> str:
    """Return the version of the suite with its limits, such as 'bars-1:0.95,1,0.4,5'.

    Other limits judge the same content otherwise, so verdicts are kept under this and not under
    SUITE_VERSION.
    """
    limits = (rules.min_coverage, rules.max_missing, rules.max_jump_frac, rules.stale_repeat_bars)
    return f"{SUITE_VERSION}:{','.join(f'{float(limit):g}' for limit in limits)}"


def suite_document(rules: Rules) -> dict[str, Any]:
    """Return the suite with these limits as Great Expectations writes it down."""
    from tradecore.validation.suite import suite_document as document

    return document(rules)


def validate(
    checks: Sequence[SessionCheck], rules: Rules, *, page: Path | None = None, title: str = ""
) -> list[SessionVerdict]:
    """Validate the bars of one or many bar ends in one pass over the suite.

    Parameters: checks, one per bar end, oldest first; rules, the `validation` section of the settings
    (min_coverage, max_missing, max_jump_frac, stale_repeat_bars); page, the file that a page of Data Docs is written to
    (None: none), with its title. Returns a verdict per check, in order.
    Great Expectations is imported here and nowhere else (2-8 s, 155 MB).
    """
    from tradecore.validation.suite import run

    return run(checks, rules, page, title)
