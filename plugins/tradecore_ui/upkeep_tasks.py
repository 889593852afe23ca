"""From a task of ops_maintenance to one call. Heavy imports stay inside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tradecore_ui.task_env import task_shell


def maintain(step: str) -> Any:
    """Run one step of maintenance."""
    from tradecore import maintenance

    with task_shell() as (_, settings, conn, now):
        return maintenance.run(settings, conn, step, now, lambda: datetime.now(UTC))
