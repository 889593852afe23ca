"""What stands between the order sheet and the venue: a person's signature, the wait for the window, the sending.

Neither holds a worker while it waits, and neither needs a triggerer. `airflow dags test` waits for nothing: it says
what it would wait for and leaves the bar 'decided'; `python -m tradecore submit SESSION` goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import BaseSensorOperator, Param, PokeReturnValue
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from tradecore_ui import task_env

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tradecore import pipeline

LOOK_AGAIN_S = 300  # at most: an answer over the command line is noticed that soon
SHORTEST_LOOK_S = 5
REASON = "Kept with your name; for a rejection it says why."

log = logging.getLogger(__name__)


def sheets_to_sign() -> list[str]:
    """Say how the newest sheet stands; return the hashes of all its versions if a person is asked, else none.

    All of them, oldest first: the n-th task of the next step is for the n-th version, whatever happened in between.
    """
    from tradecore import pipeline

    def look(bar: pipeline.Context) -> list[str]:
        stands = pipeline.approve(bar)
        log.info("The order sheet: %s", stands)
        return pipeline.sheets(bar) if stands["approval"] == "pending" else []

    return list(task_env.run(look))


class SheetSignature(HITLOperator):
    """Ask a person to sign one order sheet: in Airflow's 'Required Actions', over its REST API, or on the command line.

    One mapped task a sheet: Airflow keeps the text that a task showed first, also when it is cleared or tried again, so
    a task of its own is the only way to be sure that a person reads the sheet whose hash is signed.
    """

    def __init__(self, *, sheet: str, params: Any = None, **options: Any) -> None:  # params: the DAG's, not asked for
        super().__init__(
            subject="The order sheet",
            options=[ApprovalOperator.APPROVE, ApprovalOperator.REJECT],
            params={"reason": Param("", type=["null", "string"], title="Reason", description=REASON)},
            response_timeout=timedelta(seconds=LOOK_AGAIN_S),
            **options,
        )
        self.sheet = sheet

    def execute(self, context: Context) -> Any:
        """Show the sheet and park the task, unless nobody is asked any more."""
        asked = self._ask()
        if "text" not in asked:
            return self._settled(asked)
        if task_env.is_dag_test(context):
            log.info("Not waited for in a test: %s, until %s", asked["subject"], asked["until"])
            return asked["approval"]
        if context["ti"].try_number > 1:
            # An answer within a second of the question can end a try: Airflow takes the task, queued to go on, for
            # killed. To park is enough to be given it; to ask again would wipe it out.
            soon = timedelta(seconds=SHORTEST_LOOK_S)
            raise TaskAwaitingInput(method_name="execute_complete", kwargs={"look_back": True}, timeout=soon)
        return self._show(context, asked)

    def execute_complete(self, context: Context, event: dict[str, Any], look_back: bool = False) -> Any:
        """Record the answer; without one look whether there is still time, and wait on."""
        if event.get("error_type") == "timeout":
            asked = self._ask()
            if "text" not in asked:
                return self._settled(asked)
            if look_back:
                return self._show(context, asked)
            # Not the question again: it would wipe out an answer that comes while this runs.
            raise TaskAwaitingInput(method_name="execute_complete", timeout=_slice(asked))
        answer = super().execute_complete(context, event)
        return self._settled(task_env.run(_record, self.sheet, _answer_of(answer)))

    def _show(self, context: Context, asked: Mapping[str, Any]) -> Any:
        self.subject, self.body = asked["subject"], asked["text"]
        self.response_timeout = _slice(asked)
        return super().execute(context)

    def _ask(self) -> dict[str, Any]:
        from tradecore import pipeline

        return dict(task_env.run(pipeline.question, self.sheet))

    @staticmethod
    def _settled(result: Mapping[str, Any]) -> str:
        """Return the verdict. Raises AirflowSkipException for a sheet on which there is none."""
        log.info("The order sheet: %s", dict(result))
        if result["approval"] in ("voided", "refused", "nothing to approve"):
            raise AirflowSkipException(str(result.get("reason") or "Another sheet has taken the place of this one."))
        return str(result["approval"])


def _slice(asked: Mapping[str, Any]) -> timedelta:
    return timedelta(seconds=min(LOOK_AGAIN_S, float(asked["seconds_left"])))


def _answer_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return verdict, actor and note of what Airflow recorded: the actor is the person's Airflow user."""
    user = answer["responded_by_user"] or {}
    approved = answer["chosen_options"] == [ApprovalOperator.APPROVE]
    return {
        "verdict": "approved" if approved else "rejected",
        "actor": f"airflow:{user.get('name') or user.get('id') or 'unknown'}",
        "note": str(answer["params_input"].get("reason") or ""),
    }


def _record(bar: pipeline.Context, sheet: str, answer: Mapping[str, str]) -> dict[str, Any]:
    """Record an answer. One that cannot be taken is an alert, not a failure: the run still waits for the right one."""
    from tradecore import pipeline
    from tradecore.errors import ApprovalRefused

    try:
        return dict(pipeline.approve(bar, sheet_hash=sheet, **answer))
    except ApprovalRefused as error:
        bar.alert(
            kind="approval_refused",
            severity="error",
            stage="approve",
            key=sheet[:12],
            title=f"The answer of {answer['actor']} was not taken",
            body=error.message,
            next_step="clear the task approve.run: it asks for the sheet as it is now",
        )
        bar.conn.commit()
        return {"approval": "refused", "reason": error.message}


class SubmitSensor(BaseSensorOperator):
    """Send the sheet as soon as it may be sent; while it waits for that, between two looks, it holds no worker.

    What it waits for is the pipeline's word: a signature, the venue's window, a broker that does not answer. It ends
    with the window at the latest: what was not sent by then never is.
    """

    def poke(self, context: Context) -> PokeReturnValue:
        """Try once."""
        from tradecore import pipeline

        result = dict(task_env.run(pipeline.submit))
        if "waiting" not in result:
            return PokeReturnValue(is_done=True, xcom_value=result)
        log.info("Waiting for %s", result["waiting"])
        if task_env.is_dag_test(context):
            log.info("Not waited for in a test; later: %s", result.get("next", "python -m tradecore submit SESSION"))
            return PokeReturnValue(is_done=True, xcom_value=result)
        self.poke_interval = min(max(float(result["again_s"]), SHORTEST_LOOK_S), LOOK_AGAIN_S)
        return PokeReturnValue(is_done=False)
