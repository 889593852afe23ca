"""Sweeps and walk-forwards on real prices and a real database: right, stored once, and the same after any kill."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from typing import TextIO

import numpy as np
import psutil
import psycopg
import pyarrow.parquet as pq
import pytest
from project_home import HISTORY, NOW, REPO, Project, make, rows

from tradecore import pipeline
from tradecore.research import backtest
from tradecore.research.sweep import evaluate, planning, results, running, space
from tradecore.storage import migrate
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
SPAN = ("--first", "2005-02-01", "--last", "2005-03-31")
FIRST, LAST = date(2005, 2, 1), date(2005, 3, 31)
MA = ("ma_crossover", "--param", "short_period=2:8:2", "--param", "long_period=4:20:4")
DONCHIAN = ("donchian_breakout", "--param", "entry_period=3:22", "--param", "exit_period=2:11")
ONE = ("--jobs", "1")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, make_database):
    """A project whose database has the bars of four months."""
    with make_database() as url:
        project = make(tmp_path_factory.mktemp("sweeps"), url)
        with connect(url) as conn:
            migrate.upgrade(conn)
            pipeline.load_history(project.settings(), conn, first=HISTORY, last=LAST, now=NOW)
        yield project


@pytest.fixture
def project(loaded, copied_database):
    with copied_database(loaded.database_url) as url:
        yield replace(loaded, database_url=url)


@pytest.fixture
def conn(project):
    with connect(project.database_url) as found:
        yield found


def specified(project: Project, strategy: str, *params: str, **options) -> evaluate.Spec:
    axes = [space.parse_axis(text) for text in params]
    return planning.specify(project.settings(), strategy, axes, first=FIRST, last=LAST, **options)


def swept(project: Project, *args: str) -> dict:
    said = project.run("sweep", *args, *SPAN, "--json")
    assert said.code == 0, said.err
    return said.document


def tables(conn: psycopg.Connection, sweep_id: str) -> dict[str, list[tuple]]:
    """All that a sweep left, but for the clock."""
    chunks = "SELECT chunk_no, first_set, n_sets, n_rows, rows_hash FROM sweep_chunks WHERE sweep_id = %s ORDER BY 1"
    best = "SELECT rank, set_no, params::text, swept::text, folded::text FROM sweep_best WHERE sweep_id = %s ORDER BY 1"
    found = {"chunks": rows(conn, chunks, sweep_id), "best": rows(conn, best, sweep_id)}
    return found | {"results": results.canonical_table(conn, sweep_id)}


def folded_by_config(project: Project, conn, strategy: str, params: dict, first: date, last: date) -> backtest.Backtest:
    """The same strategy and parameters through trading.yaml and the backtest command's own path."""
    trading = project.settings().trading
    config = trading.strategies["ma_crossover"].model_copy(update={"kind": strategy, "params": params})
    solo = trading.model_copy(update={"strategies": {strategy: config}})
    return backtest.run(project.settings().model_copy(update={"trading": solo}), conn, first=first, last=last)


def test_a_sweep_by_the_fold_has_the_figures_of_a_backtest_of_each_set(project, conn):
    found = swept(project, *DONCHIAN[:2], "entry_period=3:22:6", *DONCHIAN[3:], *ONE, "--top", "3")
    table = [row for batch in results.storage.results(conn, found["sweep_id"]) for row in batch]
    assert (found["engine"], len(table), found["n_results"]) == ("fold", 40, 40)
    moved = 0
    for row in table[::7]:
        result = folded_by_config(project, conn, "donchian_breakout", row[1], FIRST, LAST)
        expected = backtest.as_records(result)["metrics"]
        for name, value in expected.items():
            column = {"cagr": 3, "volatility": 4, "sharpe": 5, "sortino": 6, "max_drawdown": 7, "calmar": 8}
            seen = row[{"total_return": 2, "hit_rate": 9, **column}[name]]
            assert seen == pytest.approx(value, abs=6e-7, nan_ok=True), (row[1], name)
        assert row[10] == len(result.fold.journal.fills)
        moved += row[10] > 0
    assert moved > 2, "not exercised"
    order = [line["swept"]["sharpe"] for line in found["best"]]
    assert order == sorted(order, reverse=True)
    assert order[0] == max(row[5] for row in table if not math.isnan(row[5]))
    assert all(line["swept"] == line["folded"] for line in found["best"])


def test_a_crossover_is_screened_and_its_best_are_folded_beside(project, conn):
    found = swept(project, *MA, *ONE, "--chunk-size", "7", "--top", "4")
    possible = [(s, n) for s in range(2, 9, 2) for n in range(4, 21, 4) if s < n]
    assert (found["engine"], found["n_sets"], found["n_results"]) == ("screen", 20, len(possible))
    plan = planning.resume(project.settings(), conn, found["sweep_id"])
    for line in found["best"]:
        direct = folded_by_config(project, conn, "ma_crossover", {**plan.spec.fixed, **line["params"]}, FIRST, LAST)
        assert line["folded"]["total_return"] == pytest.approx(
            backtest.as_records(direct)["metrics"]["total_return"], abs=6e-7
        )
    assert any(line["folded"] != line["swept"] for line in found["best"])
    page = (project.settings().local_dir / "research" / "sweeps" / f"{found['sweep_id']}.html").read_text()
    assert "short_period" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "<script" not in page
    table = pq.read_table(found["parquet"]).to_pylist()
    assert [(r["short_period"], r["long_period"]) for r in table] == possible
    assert [r["set_no"] for r in table] == [r[0] for r in results.canonical_table(conn, found["sweep_id"])]
    assert all(r["cagr"] is None for r in table)
    listed = project.run("sweeps", "list").out
    assert found["sweep_id"] in listed
    assert "3/3 chunks" in listed
    assert "max_drawdown" in project.run("sweeps", "show", found["sweep_id"]).out
    assert project.run("sweeps", "heatmap", found["sweep_id"], "--metric", "max_drawdown").code == 0


@pytest.mark.parametrize("sample", ["random", "sobol"])
def test_a_sample_by_threads_equals_one_by_one(project, copied_database, sample):
    args = ("donchian_breakout", "--param", "entry_period=3:22", "--param", "exit_period=2:11", "--sample", sample)
    args = (*args, "--n", "24", "--seed", "9", "--chunk-size", "3")
    first = swept(project, *args, "--jobs", "2", "--backend", "threading")
    with copied_database(project.database_url) as url, connect(url) as there:
        by_threads = tables(there, first["sweep_id"])
        there.execute("TRUNCATE sweeps, sweep_chunks, sweep_results, sweep_best CASCADE")
        there.commit()
        second = swept(replace(project, database_url=url), *args, *ONE)
        assert second["sweep_id"] == first["sweep_id"]
        assert tables(there, second["sweep_id"]) == by_threads
    assert len(by_threads["results"]) == 24
    assert len({row[1] for row in by_threads["results"]}) > 15, "not exercised"


def test_the_same_command_again_computes_nothing_and_changes_nothing(project, conn):
    found = swept(project, *MA, *ONE)
    query = "SELECT t::text, xmin::text FROM {} t ORDER BY 1"
    names = ("sweeps", "sweep_chunks", "sweep_results", "sweep_best")
    before = {name: rows(conn, query.format(name)) for name in names}
    again = project.run("sweep", "--resume", found["sweep_id"], "--json", *ONE)
    assert again.document["best"] == found["best"]
    assert swept(project, *MA, *ONE) == found
    assert {name: rows(conn, query.format(name)) for name in names} == before


def test_what_changed_since_is_not_mixed_with_what_was(project, conn):
    found = swept(project, *MA, *ONE)
    settings = project.settings()
    risk = settings.trading.risk.model_copy(update={"max_exposure": 0.5})
    other = settings.model_copy(update={"trading": settings.trading.model_copy(update={"risk": risk})})
    with pytest.raises(planning.SweepError, match="begun with other settings"):
        planning.resume(other, conn, found["sweep_id"])
    conn.execute("UPDATE bars SET close_e4 = close_e4 + 100 WHERE bar_end_at = '2005-02-02T21:00Z'")
    with pytest.raises(planning.SweepError, match="begun with other bars"):
        planning.resume(settings, conn, found["sweep_id"])


def test_a_sweep_stands_aside_and_goes_on(project, conn):
    plan = planning.begin(project.settings(), conn, specified(project, *MA[:1], *MA[2::2], chunk_size=4), NOW)
    asked: list[float] = []

    def wait_s(work_s: float) -> float:
        asked.append(work_s)
        return 0.0 if len(asked) <= 2 else 900.0

    assert running.run(conn, plan, now=lambda: NOW, wait_s=wait_s) == 900.0
    assert planning.find(conn, plan.sweep_id)["chunks_done"] == 2
    assert asked[0] == 60.0
    assert asked[-1] != 60.0, "the next chunk is judged by the longest so far"
    with pytest.raises(planning.SweepError, match="3 of 5 chunks"):
        results.require_whole(planning.find(conn, plan.sweep_id))
    assert running.run(conn, plan, now=lambda: NOW) == 0.0
    assert planning.find(conn, plan.sweep_id)["chunks_done"] == 5


@pytest.mark.parametrize(
    "args, message",
    [
        (("ma_crossover", "--param", "slow=5:50:5"), "has no parameter 'slow'; it has: short_period"),
        (("ma_crossover", "--param", "short_period=1:9"), "short_period=1: Input should be greater than"),
        (("ma_crossover", "--param", "short_period=20:30", "--param", "long_period=5:9"), "none of the combinations"),
        (("ma_crossover", "--param", "short_period=5"), "1 sets of 0 parameters"),
        (("ma_crossover", "--param", "confidence_threshold=0.0:1.0"), "every number between"),
        (("ma_crossover", "--param", "short_period=5:9", "--sample", "sobol"), "0 sets"),
        (("ma_crossover", "--param", "short_period=5:9", "--metric", "luck"), "metric 'luck' is unknown"),
        (("donchian_breakout", "--param", "exit_period=5:9", "--engine", "screen"), "the screening kernel sweeps"),
        (("nobody", "--param", "a=1:2"), "no strategy is called 'nobody'"),
        (("--resume", "sw-nothing"), "there is no sweep"),
        ((), "give a STRATEGY"),
    ],
)
def test_what_cannot_be_swept_says_so(project, args, message):
    said = project.run("sweep", *args, *SPAN)
    assert said.code == 1
    assert message in said.err
    assert "next:" in said.err


def test_an_unknown_backend_is_named(project):
    said = project.run("sweep", *DONCHIAN, *SPAN, "--jobs", "2", "--backend", "cloud")
    assert said.code == 1
    assert "'cloud'" in said.err


# -- killed


def process(project: Project, said: TextIO, *args: str) -> subprocess.Popen:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DB_")} | project.environ
    environ |= {"LOG_LEVEL": "WARNING", "PYTHONPATH": str(REPO / "include")}
    command = [sys.executable, "-m", "tradecore", "sweep", *args]
    # a file and no pipe: workers outlive a parent that is killed by some seconds
    return subprocess.Popen(command, env=environ, stdout=said, stderr=said, text=True)


def done(conn: psycopg.Connection) -> int:
    return int(rows(conn, "SELECT count(*) FROM sweep_chunks")[0][0])


def kill(conn: psycopg.Connection, running_now: subprocess.Popen, victim: str, at_least: int) -> bool:
    """Kill a worker, or the parent, as soon as so many chunks are there; return whether there was one to kill."""
    parent, until = psutil.Process(running_now.pid), time.monotonic() + 120
    while done(conn) < at_least and running_now.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    if running_now.poll() is not None:
        return False
    if victim == "parent":
        parent.kill()
        return True
    workers = [p for p in parent.children(recursive=True) if "loky" in " ".join(p.cmdline())]
    workers = [p for p in workers if "resource_tracker" not in " ".join(p.cmdline())]
    if workers:
        random.choice(workers).kill()
    return bool(workers)


@pytest.mark.timeout(400)
def test_workers_and_the_parent_killed_at_random_leave_the_undisturbed_table(
    loaded, project, conn, copied_database, tmp_path
):
    rng = random.Random(int(os.environ.get("KILL_SEED", "7")))
    args = (*DONCHIAN, *SPAN, "--chunk-size", "1", "--jobs", "2", "--json")
    with copied_database(loaded.database_url) as url, connect(url) as there:
        whole = swept(replace(project, database_url=url), *DONCHIAN, "--chunk-size", "1", *ONE)
        undisturbed = tables(there, whole["sweep_id"])
    assert len(undisturbed["chunks"]) == 200
    killed = {"worker": 0, "parent": 0}
    points = [("worker", rng.randrange(2, 30)), ("parent", rng.randrange(40, 70)), ("worker", rng.randrange(80, 110)),
              ("parent", rng.randrange(115, 140))]  # fmt: skip
    with (tmp_path / "said.txt").open("w+") as said:
        process_now = process(project, said, *args)
        for victim, at_least in points:
            killed[victim] += kill(conn, process_now, victim, at_least)
            if victim == "parent":
                process_now.wait(timeout=120)
                assert done(conn) < 200, "nothing was left to resume"
                process_now = process(project, said, "--resume", whole["sweep_id"], "--jobs", "2")
        code = process_now.wait(timeout=300)
        said.seek(0)
        text = said.read()
    assert code == 0, text
    assert killed == {"worker": 2, "parent": 2}, "not exercised"
    assert "a worker died" in text
    assert tables(conn, whole["sweep_id"]) == undisturbed


# -- walk-forward

WALK = ("donchian_breakout", "--param", "entry_period=3:9:3", "--param", "exit_period=2:4", *ONE, "--train", "12",
        "--test", "8", "--gap", "2")  # fmt: skip


@pytest.mark.parametrize("anchored", [False, True])
def test_a_walk_forward_trades_what_was_best_before(project, conn, anchored):
    args = (*WALK, *(("--anchored",) if anchored else ()))
    said = project.run("walk-forward", *args, *SPAN, "--json")
    assert said.code == 0, said.err
    found = said.document
    sessions = project.sessions(99)
    assert [w["test"][0] for w in found["windows"]] == [str(d) for d in sessions[14::8]]
    assert [w["train"][0] for w in found["windows"]] == [
        str(sessions[0 if anchored else 8 * k]) for k in range(len(found["windows"]))
    ]
    curve = rows(conn, "SELECT session_date, equity_e4 FROM walk_forward_equity ORDER BY bar_no")
    assert [day for day, _ in curve] == list(sessions[14:])
    for window in found["windows"]:
        best = results.storage.best(conn, window["sweep_id"], "sharpe", 1)[0]
        assert window["params"] == best["params"]
    first = found["windows"][0]
    days = [date.fromisoformat(d) for d in first["test"]]
    alone = folded_by_config(project, conn, "donchian_breakout", first["params"], *days)
    assert [e for _, e in curve[:8]] == alone.fold.equity_e4.tolist()
    assert first["out_of_sample"]["total_return"] == pytest.approx(curve[7][1] / 1e9 - 1, abs=1e-12)
    assert found["figures"]["total_return"] == pytest.approx(curve[-1][1] / 1e9 - 1, abs=1e-12)
    joined = np.prod([1 + w["out_of_sample"]["total_return"] for w in found["windows"]]) - 1
    assert joined == pytest.approx(found["figures"]["total_return"], abs=1e-12)
    assert len({json.dumps(w["params"]) for w in found["windows"]}) > 1, "not exercised: one path of parameters"
    assert found["figures"]["n_trades"] > 0
    conn.rollback()  # the backtest above has locked the universe's rows; the next command writes them too
    assert project.run("walk-forward", *args, *SPAN, "--json").document == found
    assert "windows, 2005-02-" in project.run("walk-forward", *args, *SPAN).out


def test_a_range_too_short_for_a_walk_forward_says_so(project):
    said = project.run("walk-forward", *WALK[:-4], "--test", "8", "--train", "60", *SPAN)
    assert said.code == 1
    assert "no walk-forward in 2005-02-01 to 2005-03-31" in said.err
