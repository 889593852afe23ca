"""`make up` to `make down`, on a copy of the project with its own database: what a person at the machine does."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import processes
from native_stack import Stack, prepared_project
from tradecore.storage import embedded

pytestmark = [pytest.mark.db, pytest.mark.slow]

PROBE_DAG = """
from airflow.sdk import DAG, task

with DAG("probe", schedule=None, is_paused_upon_creation=False):

    @task
    def look():
        import os
        import sys

        print("numba in the fork:", "numba" in sys.modules, os.environ["NUMBA_CACHE_DIR"])

    look()
"""
PARTS = ("scheduler", "dag-processor", "api-server", "watch")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A prepared copy in a folder whose name has a space, its wanted port already taken by somebody else."""
    folder = tmp_path_factory.mktemp("a stack")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with prepared_project(folder, AIRFLOW_PORT=str(stranger.getsockname()[1])) as prepared:
            (prepared.root / "dags" / "probe.py").write_text(PROBE_DAG)
            yield prepared


@pytest.fixture(scope="module")
def up(stack: Stack) -> Stack:
    """The stack, started from a shell that has ended since."""
    done = stack.make("up")
    assert done.returncode == 0, done.stdout + done.stderr
    port = (stack.root / ".local" / "run" / "port").read_text()
    assert f"using {port}" in done.stdout, "the wanted port was taken"
    assert stack.passwords["admin"] in done.stdout
    return Stack(root=stack.root, env=stack.env, url=f"http://127.0.0.1:{port}", passwords=stack.passwords)


def test_status_names_every_part_and_up_again_starts_nothing(up: Stack) -> None:
    status = up.make("status")
    assert status.returncode == 0, status.stdout
    for part in (*PARTS, "database"):
        assert part in status.stdout
    pids = [up.pid(part) for part in PARTS]
    again = up.make("up", timeout_s=60)
    assert again.returncode == 0
    assert again.stdout.count("runs already") == len(PARTS)
    assert [up.pid(part) for part in PARTS] == pids


def test_up_again_after_a_change_of_the_settings_says_that_they_are_not_in_force(up: Stack) -> None:
    env_file = up.root / ".env"
    before = env_file.read_text() if env_file.exists() else None
    env_file.write_text((before or "") + "INITIAL_CASH=4321\n")
    try:
        again = up.make("up", timeout_s=60)
    finally:
        env_file.write_text(before) if before is not None else env_file.unlink()
    assert again.stdout.count("runs already, with the settings of its start") == len(PARTS), again.stdout
    assert "settings of its start" not in up.make("up", timeout_s=60).stdout


def test_every_part_is_a_session_of_its_own(up: Stack) -> None:
    """A closed SSH session signals its own session only."""
    for part in PARTS:
        assert os.getsid(up.pid(part)) == up.pid(part)
        assert Path(f"/proc/{up.pid(part)}/fd/0").readlink() == Path("/dev/null")


def test_login_is_asked_for_and_its_file_is_ours_alone(up: Stack) -> None:
    assert up.call("/api/v2/dags")[0] == 401
    assert up.call("/auth/token", {"username": "admin", "password": "wrong"})[0] == 401
    assert up.call("/api/v2/dags", token=up.token())[0] == 200
    viewer = up.token("viewer")
    assert up.call("/api/v2/dags", token=viewer)[0] == 200
    assert up.call("/api/v2/dags/probe", {"is_paused": True}, viewer, "PATCH")[0] == 403
    login = up.root / ".local" / "airflow" / "login.json"
    assert stat.S_IMODE(login.stat().st_mode) == 0o600


def test_api_listens_on_loopback_only(up: Stack) -> None:
    port = int(up.url.rsplit(":", 1)[1])
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {row[1].split(":")[0] for row in listening if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    assert ours == {"0100007F"}


def test_task_runs_with_numba_preloaded_and_its_log_is_readable_over_the_api(up: Stack) -> None:
    assert up.run("airflow", "dags", "reserialize").returncode == 0
    token = up.token()
    status, run = up.call("/api/v2/dags/probe/dagRuns", {"logical_date": None}, token)
    assert status == 200, run
    path = f"/api/v2/dags/probe/dagRuns/{run['dag_run_id']}"
    deadline = time.monotonic() + 60
    while (state := up.call(path, token=token)[1]["state"]) not in ("success", "failed"):
        assert time.monotonic() < deadline, state
        time.sleep(0.5)
    assert state == "success"
    log = json.dumps(up.call(f"{path}/taskInstances/look/logs/1", token=token)[1])
    assert "numba in the fork: True" in log
    assert ".local/numba-cache/" in log


def test_memory_is_counted_for_every_part(up: Stack) -> None:
    done = up.make("memory", "--seconds", "2", "--json")
    figures = json.loads(done.stdout)
    assert set(figures["part_peak_mb"]) == {*PARTS, "database"}
    assert all(mb > 0 for mb in figures["part_peak_mb"].values())
    assert 200 < figures["last_mb"] <= figures["peak_mb"]
    assert "sum" in up.make("memory").stdout


def test_killed_part_is_missed_and_started_again_without_its_orphans(up: Stack) -> None:
    old = up.pid("scheduler")
    orphans = processes.family([old]) - {old}
    assert orphans, "the scheduler has workers"
    os.kill(old, signal.SIGKILL)
    time.sleep(0.5)
    status = up.make("status")
    assert status.returncode == 1
    assert "Not well: scheduler" in status.stdout
    again = up.make("up")
    assert again.returncode == 0, again.stdout
    assert up.pid("scheduler") != old
    assert not orphans & processes.table().keys()
    assert up.make("status").returncode == 0


def test_zz_down_leaves_no_process_behind(up: Stack) -> None:
    leaders = [up.pid(part) for part in PARTS]
    everyone = processes.family(leaders) | {embedded.status(up.root) or 0}
    started = time.monotonic()
    done = up.make("down")
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - started < 60
    left = everyone & processes.table().keys()
    assert not left, subprocess.run(["ps", "-fp", ",".join(map(str, left))], capture_output=True).stdout
    assert embedded.status(up.root) is None
    assert up.make("status").returncode == 1
    assert "Nothing was running" in up.make("down").stdout
