"""From a research task to one call: the form's fields as the call's arguments. Heavy imports stay inside."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseSensorOperator

from tradecore_ui import callbacks
from tradecore_ui.task_env import history_range, is_dag_test, task_shell

if TYPE_CHECKING:
    from airflow.sdk import Context

LOOK_AGAIN_S = 600.0

log = logging.getLogger(__name__)


def research_dag(
    dag_id: str, description: str, doc: str | None, *, params: Mapping[str, Any], hours: int, retries: int = 2
) -> DAG:
    """Return a DAG that runs when it is asked for; hours: how long a task may take. The trading day's come first."""
    return DAG(
        dag_id,
        description=description,
        doc_md=doc,
        schedule=None,
        max_active_runs=1,
        tags=["research"],
        on_failure_callback=callbacks.run_failed,
        default_args={
            "retries": retries,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": timedelta(hours=hours),
            "priority_weight": 0,
            "weight_rule": "absolute",
            "on_failure_callback": callbacks.task_failed,
            "on_retry_callback": callbacks.task_retried,
        },
        params=dict(params),
    )


class QuietSensor(BaseSensorOperator):
    """Wait while the trading day needs the machine, or will within `work_s`; between two looks it holds no worker."""

    def __init__(self, *, work_s: float, **options: Any) -> None:
        super().__init__(**options)
        self.work_s = work_s

    def poke(self, context: Context) -> bool:
        """Ask once."""
        from tradecore.research import quiet_hours

        if is_dag_test(context):
            return True
        with task_shell() as (_, settings, _conn, _now):
            seconds = quiet_hours.wait_s(settings, datetime.now(UTC), self.work_s)
        if seconds:
            log.info("The trading day goes first: on again in %.0f minutes", seconds / 60)
            self.poke_interval = min(seconds, LOOK_AGAIN_S)
        return not seconds


def backtest() -> dict[str, Any]:
    """Run the backtest that the form asks for and keep it; return its id, its page and three figures."""
    from tradecore.research import kept
    from tradecore.research.overrides import Overrides, parse_params

    with task_shell() as (context, settings, conn, now):
        form = context["params"]
        first, last = _range(context, settings, conn)
        row = kept.run(
            settings,
            conn,
            first=first,
            last=last,
            overrides=Overrides(
                cash_usd=None if form["cash_usd"] is None else Decimal(str(form["cash_usd"])),
                strategies=tuple(form["strategies"]),
                params=parse_params(form["params_json"]),
                cost_bps=form["cost_bps"],
            ),
            benchmark=form["benchmark"],
            now=now,
        )
        chosen = {name: row.metrics[name] for name in ("total_return", "sharpe", "max_drawdown")}
        return {"backtest_id": row.backtest_id, "report": row.report_path, **chosen}


def analyse() -> dict[str, Any]:
    """Write the page on the universe, or on the symbols that the form names; return where it is and its summary."""
    from tradecore.research import analysis

    with task_shell() as (context, settings, conn, _):
        first, last = _range(context, settings, conn)
        return analysis.run(settings, conn, symbols=tuple(context["params"]["symbols"]), first=first, last=last)


def _range(context: Mapping[str, Any], settings: Any, conn: Any) -> tuple[date, date]:
    """Return the form's range: by default the last five years that the feed has."""
    from tradecore import pipeline

    return history_range(context, lambda at: pipeline.last_available_session(settings, conn, at))
