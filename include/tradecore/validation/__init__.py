"""Stage 2: is this data fit to trade on? The suite (Great Expectations), its findings, and the gate.

`validate` is what the pipeline calls (tradecore/ingestion.py); its records are defined here, the suite in suite.py.
"""

from __future__ import annotations

from tradecore.validation.records import CheckRow, Finding, SessionCheck, SessionVerdict, content_hash

SUITE_VERSION = "bars-1"

__all__ = ["SUITE_VERSION", "CheckRow", "Finding", "SessionCheck", "SessionVerdict", "content_hash", "validate"]


def validate(checks: list[SessionCheck], rules: object) -> list[SessionVerdict]:
    """Validate the bars of one or many bar ends in one pass over the suite.

    Parameters: checks, one per bar end, oldest first; rules, the `validation` section of the settings (min_coverage,
    max_missing, max_jump_frac, stale_repeat_bars). Returns a verdict per check, in order. Great Expectations is
    imported here and nowhere else.
    """
    from tradecore.validation.suite import run

    return run(checks, rules)
