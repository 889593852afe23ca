"""What is odd about the bars of a history: gaps, outliers, splits that nobody announced, vendors that disagree.

find.py      the rules, on arrays; pure
reading.py   what the vendors said, from the database, as known at a time
page.py      the report as a page
"""

from tradecore.anomalies.find import KINDS, Anomaly
from tradecore.anomalies.reading import audit

__all__ = ["KINDS", "Anomaly", "audit"]
