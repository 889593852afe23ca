"""The anomaly report as one self-contained page: no script, nothing fetched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tradecore.anomalies.find import KINDS, Anomaly
from tradecore.reports.pages import research_page

TITLES = {
    "gap": "Missing bars",
    "outlier": "Outliers",
    "split_unannounced": "Splits that nobody announced",
    "split_unseen": "Announced splits that the prices do not show",
    "repeat": "Bars that repeat",
    "after_end": "Bars after a delisting",
    "disagreement": "Vendors that disagree",
    "kept_out": "Kept out by validation",
}
SHOWN = 500


def page(found: Sequence[Anomaly], *, source: str, timeframe: str, names: int, first: str, last: str) -> str:
    """Return the page of an audit; the same anomalies give the same page."""
    count = Counter(a.kind for a in found)
    groups = [(TITLES[k], count[k], [a for a in found if a.kind == k][:SHOWN]) for k in KINDS if count[k]]
    lead = f"{names} names, {timeframe} bars of {source}, {first} to {last}"
    return research_page("audit.html.j2", groups=groups, total=len(found), lead=lead, shown=SHOWN)
