"""The DAG files: what they cost to read, what they wire, and that both kinds of callback are there."""

from __future__ import annotations

import ast
import copy
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.serialization.serialized_objects import DagSerialization

ROOT = Path(__file__).resolve().parents[2]
DAG_FILES = sorted((ROOT / "dags").glob("*.py"))
PLUGIN_FILES = sorted((ROOT / "plugins").rglob("*.py"))
HEAVY = ("numpy", "pandas", "numba", "psycopg", "great_expectations", "matplotlib", "exchange_calendars")
PARSE_LIMIT_S = 0.3
READS = 5
STAGES = (
    "ingest", "validate", "turn", "settle", "gate", "signal", "risk", "plan", "report", "approve", "submit",
    "close", "prove",
)  # fmt: skip
SESSION_DAGS = ("trading_day", "replay_day")
RESEARCH_DAGS = ("research_backtest", "research_analyse", "research_sweep")

# One interpreter that has imported airflow.sdk and nothing else; each read is a fork of it, so as fresh as its own.
READ = """
import json, os, runpy, sys, time
import airflow.sdk
before = set(sys.modules)
for path in sys.argv[1:]:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        started = time.process_time()  # of this process: what else the machine does is no cost of the file
        runpy.run_path(path)
        took = time.process_time() - started
        print(json.dumps({"took_s": took, "new": sorted(set(sys.modules) - before), "before": sorted(before)}))
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{path} cannot be read")
"""


def fresh_reads(path: Path, count: int) -> list[dict]:
    """Read a DAG file some times, each in a process of its own that has imported airflow.sdk and nothing else."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(ROOT / "plugins")])}
    command = [sys.executable, "-c", READ, *[str(path)] * count]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=120)
    reads = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"took_s"')]
    assert len(reads) == count, done.stdout
    return reads


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(ROOT / "dags"), safe_mode=False, bundle_name="tests")


def tasks_by_stage(dag) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for task_id in sorted(dag.task_ids):
        groups.setdefault(task_id.partition(".")[0], []).append(task_id.partition(".")[2])
    return groups


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.name)
def test_a_dag_file_is_read_fast_and_imports_nothing_heavy(path):
    reads = fresh_reads(path, READS)
    for read in reads:
        assert not [name for name in HEAVY if name in read["before"]], "airflow.sdk itself brings it now"
        assert not [name for name in HEAVY if name in read["new"]]
    assert statistics.median(read["took_s"] for read in reads) <= PARSE_LIMIT_S


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.name)
def test_a_dag_file_is_short(path):
    assert len(path.read_text().splitlines()) < 110


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.name)
def test_a_task_body_in_a_dag_file_is_an_import_and_one_call(path):
    def is_task(node: ast.AST) -> bool:
        calls = [d.func if isinstance(d, ast.Call) else d for d in getattr(node, "decorator_list", ())]
        return any(ast.unparse(call).partition(".")[0] == "task" for call in calls)

    bodies = [node.body for node in ast.walk(ast.parse(path.read_text())) if is_task(node)]
    for body in bodies:
        assert [type(statement) for statement in body] == [ast.ImportFrom, ast.Return]
        assert isinstance(body[-1].value, ast.Call)
    assert bodies or "trading_day" not in path.name, "not exercised"


def test_the_bag_has_these_dags_and_no_errors(bag):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [
        "load_history",
        "ops_maintenance",
        "replay_day",
        "research_analyse",
        "research_backtest",
        "research_sweep",
        "trading_day",
    ]


@pytest.mark.parametrize("dag_id", SESSION_DAGS)
def test_stages_are_task_groups_in_order(bag, dag_id):
    dag = bag.dags[dag_id]
    expected = {stage: ["run"] for stage in STAGES}
    expected["signal"] = ["run", "strategies"]
    expected["close"] = ["outcome", "run"]
    expected["approve"] = ["person", "run"]
    if dag_id == "replay_day":
        expected["ingest"] = ["open_book", "run"]
    assert tasks_by_stage(dag) == expected
    order = [task.task_id.partition(".")[0] for task in dag.topological_sort()]
    assert list(dict.fromkeys(order)) == list(STAGES)


@pytest.mark.parametrize("dag_id", SESSION_DAGS)
def test_wiring(bag, dag_id):
    """The gate guards signal to submit; settle, report and close hang on nothing behind it alone."""
    dag = bag.dags[dag_id]
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    rules = {task.task_id: str(getattr(task.trigger_rule, "value", task.trigger_rule)) for task in dag.tasks}
    assert upstream["settle.run"] == {"turn.run"}
    assert upstream["gate.run"] == {"validate.run", "settle.run"}
    assert upstream["signal.strategies"] == {"gate.run"}
    assert (upstream["risk.run"], rules["risk.run"]) == (
        {"signal.strategies", "signal.run"},
        "all_done_min_one_success",
    )
    assert (upstream["report.run"], rules["report.run"]) == ({"settle.run", "plan.run"}, "none_failed")
    assert upstream["approve.run"] == {"plan.run", "report.run"}
    assert upstream["approve.person"] == {"approve.run"}
    # past a signature that nobody was asked for (skipped), not past a closed gate (approve.run is skipped too)
    assert (upstream["submit.run"], rules["submit.run"]) == (
        {"approve.run", "approve.person"},
        "none_failed_min_one_success",
    )
    assert (upstream["close.run"], rules["close.run"]) == ({"report.run", "submit.run"}, "all_done")
    assert upstream["prove.run"] == {"close.run"}, "it undoes nothing: the session is closed"
    assert upstream["close.outcome"] == {"report.run", "submit.run"}
    assert rules["close.outcome"] == "none_failed"
    assert {task.task_id for task in dag.leaves} == {"prove.run", "close.outcome"}
    special = {"risk.run", "report.run", "submit.run", "close.run", "close.outcome"}
    assert {rule for task, rule in rules.items() if task not in special} == {"all_success"}


@pytest.mark.parametrize("dag_id", SESSION_DAGS)
def test_turn_and_submit_hold_no_worker_and_the_gate_skips_only_its_own(bag, dag_id):
    dag = bag.dags[dag_id]
    assert {dag.get_task(f"{stage}.run").mode for stage in ("turn", "submit")} == {"reschedule"}
    assert dag.get_task("submit.run").timeout > 5 * 86_400  # over a long weekend
    assert dag.get_task("gate.run").ignore_downstream_trigger_rules is False
    assert dag.get_task("signal.run").is_mapped


@pytest.mark.parametrize("dag_id", ["load_history", "ops_maintenance", *RESEARCH_DAGS, *SESSION_DAGS])
def test_alerts_and_retries_at_task_and_dag_level(bag, dag_id):
    def names(callbacks) -> list[str]:
        return [callback.__name__ for callback in (callbacks if isinstance(callbacks, list) else [callbacks])]

    dag = bag.dags[dag_id]
    assert names(dag.on_failure_callback) == ["run_failed"]
    for task in dag.tasks:
        assert names(task.on_failure_callback) == ["task_failed"], task.task_id
        assert names(task.on_retry_callback) == ["task_retried"], task.task_id
        assert task.retries >= 1
        assert task.execution_timeout is not None
    if dag_id in SESSION_DAGS:  # sending again is safe: each order once, whatever broke
        assert dag.get_task("submit.run").retries == max(task.retries for task in dag.tasks)


def test_the_shards_of_a_sweep_are_spread_hold_no_worker_and_come_after_the_trading_day(bag):
    dag = bag.dags["research_sweep"]
    run = dag.get_task("sweep.run")
    assert run.is_mapped
    assert (run.partial_kwargs["mode"], run.partial_kwargs["weight_rule"]) == ("reschedule", "absolute")
    assert {t.task_id: set(t.upstream_task_ids) for t in dag.tasks} == {
        "sweep.plan": set(),
        "sweep.run": {"sweep.plan"},
        "sweep.collect": {"sweep.run"},
    }
    assert {t.priority_weight for t in dag.tasks} == {0}
    assert min(t.priority_weight for t in bag.dags["trading_day"].tasks) > 0


@pytest.mark.parametrize("dag_id", SESSION_DAGS)
def test_a_person_is_asked_without_a_triggerer_and_once_a_sheet(bag, dag_id):
    task = bag.dags[dag_id].get_task("approve.person")
    assert task.is_mapped
    asked = task.unmap({"sheet": "5" * 64})
    assert isinstance(asked, HITLOperator)
    assert (asked.options, asked.defaults, asked.multiple) == (["Approve", "Reject"], None, False)
    assert asked.response_timeout.total_seconds() <= 300, "an answer over the command line is noticed only then"
    assert list(asked.params) == ["reason"]


@pytest.mark.parametrize("dag_id", ["research_backtest", "research_analyse"])
def test_research_waits_for_the_trading_day_without_a_worker_and_comes_after_it(bag, dag_id):
    dag = bag.dags[dag_id]
    (quiet,) = [task for task in dag.tasks if task.task_id.endswith(".quiet")]
    assert quiet.mode == "reschedule"
    assert set(dag.task_ids) == {quiet.task_id, *quiet.downstream_task_ids}
    assert {task.priority_weight for task in dag.tasks} == {0}


def test_maintenance_waits_for_the_trading_day_and_one_step_does_not_stop_the_next(bag):
    dag = bag.dags["ops_maintenance"]
    assert [task.task_id.partition(".")[2] for task in dag.topological_sort()] == [
        "quiet", "aggregates", "retention", "compression", "vacuum", "logs", "outcome",
    ]  # fmt: skip
    assert dag.get_task("maintain.quiet").mode == "reschedule"
    steps = [task for task in dag.tasks if task.task_id.partition(".")[2] not in ("quiet", "outcome")]
    assert {str(task.trigger_rule.value) for task in steps} == {"all_done"}
    outcome = dag.get_task("maintain.outcome")
    assert str(outcome.trigger_rule.value) == "none_failed"
    assert set(outcome.upstream_task_ids) == {task.task_id for task in steps}
    assert {task.priority_weight for task in dag.tasks} == {0}


def test_form_fields(bag):
    own, named = (bag.dags[dag_id].params for dag_id in SESSION_DAGS)
    assert (own["session"], own["book"], own.get_param("book").schema["enum"]) == (None, "sim", ["sim"])
    assert (named["session"], named["book"], named["first_session"]) == (None, "replay:default", None)
    backtest = bag.dags["research_backtest"].params
    assert [backtest[name] for name in ("first_session", "strategies", "params_json", "cash_usd", "cost_bps")] == [
        None, [], "{}", None, None,
    ]  # fmt: skip
    assert list(bag.dags["research_analyse"].params) == ["first_session", "last_session", "symbols"]
    assert list(bag.dags["load_history"].params) == ["first_session", "last_session", "symbols", "batch_size", "repair"]


@pytest.mark.parametrize(
    "dag_id, form, message",
    [
        ("trading_day", {"session": "2004-11-3"}, "session"),
        ("trading_day", {"book": "alpaca-live"}, "book"),
        ("replay_day", {"book": "sim"}, "book"),
        ("replay_day", {"first_session": "tomorrow"}, "first_session"),
        ("load_history", {"batch_size": 0}, "batch_size"),
        ("research_backtest", {"cash_usd": 0}, "cash_usd"),
        ("research_backtest", {"cost_bps": -1}, "cost_bps"),
        ("research_sweep", {"parameters": []}, "parameters"),
        ("research_sweep", {"walk_forward": "often"}, "walk_forward"),
        ("research_analyse", {"symbols": "AAPL"}, "symbols"),
    ],
)
def test_a_form_with_an_impossible_value_is_refused(bag, dag_id, form, message):
    from airflow.sdk.exceptions import ParamValidationError

    params = copy.deepcopy(bag.dags[dag_id].params)
    with pytest.raises(ParamValidationError, match=message):
        params.update(form)


@pytest.mark.parametrize("dag_id, automatic", [("trading_day", True), ("replay_day", False)])
def test_schedules(bag, dag_id, automatic):
    dag = bag.dags[dag_id]
    assert dag.catchup is False
    assert dag.max_active_runs >= 10  # what a backfill may ask for in Airflow's form
    assert dag.timetable.serialize() == {
        "calendar": "XNYS",
        "run_delay_minutes": 30,
        "last_session": "2013-03-01",
        "automatic": automatic,
    }


def test_dags_survive_serialisation(bag):
    for dag in bag.dags.values():
        assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).dag_id == dag.dag_id


def test_there_is_one_plugin_class():
    classes = [
        (path.name, node.name)
        for path in PLUGIN_FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and "AirflowPlugin" in [ast.unparse(base) for base in node.bases]
    ]
    assert classes == [("tradecore_plugin.py", "TradecorePlugin")]


@pytest.mark.parametrize("path", [ROOT / "plugins" / "tradecore_plugin.py"], ids=lambda path: path.name)
def test_the_plugin_loads_light(path):
    (read,) = fresh_reads(path, 1)
    assert not [name for name in HEAVY if name in read["new"]]
