"""The project's only Airflow plugin: it registers, and does nothing else.

Airflow loads this file in every component, so it imports only what they all need.
"""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from tradecore_ui.session_timetable import SessionTimetable


class TradecorePlugin(AirflowPlugin):
    """Names the session timetable to the scheduler."""

    name = "tradecore"
    timetables: ClassVar = [SessionTimetable]
