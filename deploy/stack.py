"""The local stack in the background: make up, down, status, logs, memory.

Each part is a session of its own, so that it survives the shell that started it; what it says goes to
.local/logs/<part>.log. A pid counts only with the start time it had, so a reused number is never taken for a
part, nor killed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
from dotenv import dotenv_values

import environment as project
import processes
from tradecore import kernel_cache
from tradecore.errors import TradecoreError
from tradecore.storage import embedded

ROOT = project.ROOT
RUN, LOGS = ROOT / ".local" / "run", ROOT / ".local" / "logs"
BIN = Path(sys.executable).parent
MARK = "NATIVE_STACK"
VENDOR_POOL = ["vendor", "2", "tasks that ask a vendor of market data at once"]  # name, slots, description
# The watcher first: it shall raise no alert about the others. Tasks that still run report to the api-server.
STOP_ORDER = ("watch", "scheduler", "dag-processor", "api-server")
HEALTH_TIMEOUT_S = 180  # a Pi with an SD card needs a while to import Airflow three times at once
TERM_PATIENCE_S = 30
LOG_BYTES_MAX = 10_000_000


def parts(port: int) -> dict[str, list[str]]:
    """Return the command of every part, in the order of their start."""
    airflow = str(BIN / "airflow")
    return {
        # The api-server reads the task logs from the same disk: no process to serve them.
        "scheduler": [airflow, "scheduler", "--skip-serve-logs"],
        "dag-processor": [airflow, "dag-processor"],
        "api-server": [airflow, "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        "watch": [sys.executable, "-m", "tradecore", "watch", "--loop"],
    }


# -- what runs


def note(name: str, pid: int, settings: str = "") -> None:
    """Remember a part by pid, start time and boot, and what settings it was started with."""
    process = processes.look(pid)
    record = {"pid": pid, "started": process.started if process else 0, "boot": processes.boot_id()}
    (RUN / f"{name}.json").write_text(json.dumps(record | {"settings": settings}))


def settings_of(name: str) -> str:
    """Return the sum of the settings that a part was started with, '' if it was not noted."""
    return str(json.loads((RUN / f"{name}.json").read_text()).get("settings", ""))


def settings_sum(env: Mapping[str, str]) -> str:
    """Return a checksum of the keys that .env names and of the values in force for them."""
    keys = sorted(key for key in dotenv_values(ROOT / ".env") if key in env)
    return f"{zlib.crc32(json.dumps([[key, env[key]] for key in keys]).encode()):08x}"


def noted(name: str) -> tuple[int, processes.Process | None]:
    """Return the pid that a part was started with in this boot (0: none), and the process if it lives."""
    try:
        record = json.loads((RUN / f"{name}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return 0, None
    process = processes.look(record["pid"])
    if record["boot"] != processes.boot_id() or (process and process.started != record["started"]):
        return 0, None
    return record["pid"], process


def running(name: str) -> int | None:
    """Return the pid of a part that runs, else None."""
    pid, process = noted(name)
    return pid if process else None


def family(names: Iterable[str]) -> set[int]:
    """Return the processes of these parts, also those that a killed part left behind in its session."""
    return processes.family(pid for name in names if (pid := noted(name)[0]))


# -- up


def up() -> int:
    """Start what does not run, wait until Airflow says it is well, print where and how to log in."""
    RUN.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    port = choose_port()
    env = os.environ | project.environment(ROOT, os.environ) | {MARK: str(ROOT)}
    migrate(env)
    write_login(env)
    kernel_cache.prune(ROOT)
    compile_kernels(env)
    for name, command in parts(port).items():
        if running(name) is not None:
            older = settings_of(name) not in ("", settings_sum(env))
            late = ", with the settings of its start; for those of now: make down, make up" if older else ""
            print(f"  {name}: runs already{late}")
            continue
        processes.end(family([name]), "SIGKILL", 5)  # what a killed part left behind
        with open_log(name) as log:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        note(name, child.pid, settings_sum(env))
        print(f"  {name}: started, pid {child.pid}")
    if not wait_until_well(port):
        return 1
    print(
        f"\nAirflow: http://127.0.0.1:{port}\n"
        f"  user admin   password {env['AIRFLOW_ADMIN_PASSWORD']}\n"
        f"  user viewer  password {env['AIRFLOW_VIEWER_PASSWORD']}   (may look, not act)\n"
        "DAGs are paused until you switch them on. `make status`, `make logs`, `make memory`, `make down`."
    )
    return 0


def prepare() -> int:
    """Do all that comes before the parts start, for who starts them otherwise (systemd): tables, logins, kernels."""
    env = os.environ | project.environment(ROOT, os.environ)
    RUN.mkdir(parents=True, exist_ok=True)
    (RUN / "port").write_text(env["AIRFLOW__API__PORT"])  # the watch asks there whether the api-server answers
    migrate(env)
    write_login(env)
    kernel_cache.prune(ROOT)
    compile_kernels(env)
    return 0


def choose_port() -> int:
    """Return the port of the running api-server, else the wanted one or the next free; and note it."""
    noted = project.noted_port(ROOT)
    if running("api-server") is not None and noted:
        return int(noted)
    (RUN / "port").unlink(missing_ok=True)
    wanted = int((os.environ | project.environment(ROOT, os.environ))["AIRFLOW__API__PORT"])
    for port in range(wanted, min(wanted + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port != wanted:
            print(f"  port {wanted} is taken: using {port} (AIRFLOW_PORT in .env chooses another)")
        (RUN / "port").write_text(str(port))
        return port
    raise SystemExit(f"error: no free port from {wanted} on. Set AIRFLOW_PORT in .env to a free one.")


def migrate(env: dict[str, str]) -> None:
    """Bring Airflow's and our tables up to date; Airflow's only if its version or database changed."""
    stamp = ROOT / ".local" / "airflow" / "migrated.json"
    version = metadata.version("apache-airflow")
    present = airflow_revision(env["DATABASE_URL"])
    try:
        done = json.loads(stamp.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        done = {}
    if present is None or done != {"airflow": version, "revision": present, "pool": VENDOR_POOL}:
        print(f"  Airflow {version}: preparing its tables (10 to 60 s)", flush=True)
        run_step([str(BIN / "airflow"), "db", "migrate"], env, "migrate")
        run_step([str(BIN / "airflow"), "pools", "set", *VENDOR_POOL], env, "migrate")
        made = {"airflow": version, "revision": airflow_revision(env["DATABASE_URL"]), "pool": VENDOR_POOL}
        stamp.write_text(json.dumps(made))
    run_step([sys.executable, "-m", "tradecore", "db", "upgrade"], env, "migrate")


def compile_kernels(env: dict[str, str]) -> None:
    """Fill the cache of compiled kernels in a process of its own: the compiler's memory ends with it."""
    stamp = Path(env["NUMBA_CACHE_DIR"]) / "compiled"
    if not stamp.exists():
        print("  kernels: compiling them (10 to 60 s, once per change of a kernel)", flush=True)
        run_step([sys.executable, "-m", "tradecore.warm"], env, "kernels")
        stamp.touch()


def airflow_revision(url: str) -> str | None:
    """Return the revision of Airflow's tables, None without any. Raises SystemExit without a database."""
    try:
        with psycopg.connect(url, connect_timeout=10) as database:
            row = database.execute("SELECT version_num FROM public.alembic_version").fetchone()
            return str(row[0]) if row else None
    except psycopg.errors.UndefinedTable:
        return None
    except psycopg.OperationalError as error:
        said = str(error).strip().splitlines()[0]
        raise SystemExit(f"error: no database: {said}. Check DATABASE_URL or DB_HOST in .env.") from error


def run_step(command: list[str], env: dict[str, str], name: str) -> None:
    """Run a step with its words in a log; show their end and stop if it fails."""
    with open_log(name) as log:
        done = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if done.returncode != 0:
        show_end(name)
        raise SystemExit(f"error: `{' '.join(command[-3:])}` failed; all of it is in .local/logs/{name}.log")


def write_login(env: dict[str, str]) -> None:
    """Write the passwords for Airflow's simple auth manager, readable by us alone."""
    path = Path(env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    logins = {"admin": env["AIRFLOW_ADMIN_PASSWORD"], "viewer": env["AIRFLOW_VIEWER_PASSWORD"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        json.dump(logins, handle)
    fresh.replace(path)


def open_log(name: str) -> Any:
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{name}.log"
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(".old.log"))
    return path.open("a")


def wait_until_well(port: int) -> bool:
    """Wait for scheduler, dag-processor and api-server to be healthy; say what is missing if they are not."""
    print("  waiting until all parts are well (20 to 90 s) ", end="", flush=True)
    deadline = time.monotonic() + HEALTH_TIMEOUT_S
    while time.monotonic() < deadline:
        dead = [name for name in parts(port) if running(name) is None]
        if dead:
            print(f"\nerror: {dead[0]} ended at once. The end of .local/logs/{dead[0]}.log:")
            show_end(dead[0])
            return False
        if all(state == "healthy" for state in health(port).values()):
            print(" well")
            return True
        print(".", end="", flush=True)
        time.sleep(1)
    print(f"\nerror: not well after {HEALTH_TIMEOUT_S} s: {health(port)}. Read .local/logs/.")
    return False


def health(port: int) -> dict[str, str]:
    """Return what Airflow says about its parts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5) as answer:
            said = json.load(answer)
    except (OSError, urllib.error.URLError, json.JSONDecodeError):
        return {"api-server": "no answer"}
    names = {"scheduler": "scheduler", "dag_processor": "dag-processor", "metadatabase": "database"}
    return {name: (said.get(key) or {}).get("status") or "unknown" for key, name in names.items()}


def show_end(name: str) -> None:
    path = LOGS / f"{name}.log"
    for line in path.read_text(errors="replace").splitlines()[-15:] if path.exists() else []:
        print(f"    {line}")


# -- down, status, logs, memory


def down() -> int:
    """Stop every part with all its children, then the embedded database."""
    leaders = {name: pid for name in STOP_ORDER if (pid := running(name)) is not None}
    everyone = family(STOP_ORDER) | processes.marked(f"{MARK}={ROOT}")
    for name, pid in leaders.items():
        waits = f" (waits for its running tasks, up to {TERM_PATIENCE_S} s)" if name == "scheduler" else ""
        print(f"  {name}: stopping pid {pid}{waits}", flush=True)
        processes.end({pid}, "SIGTERM", TERM_PATIENCE_S)
    everyone |= family(STOP_ORDER)
    processes.end(everyone, "SIGTERM", 5)
    processes.end(everyone, "SIGKILL", 5)
    for name in STOP_ORDER:
        (RUN / f"{name}.json").unlink(missing_ok=True)
    (RUN / "port").unlink(missing_ok=True)
    had_database = embedded.stop(ROOT)
    if had_database:
        print("  database: stopped")
    print("Stopped." if everyone or had_database else "Nothing was running.")
    return 0


def status() -> int:
    """Print a line per part; 0 if all run and say that they are well."""
    port = int(project.noted_port(ROOT) or project.DEFAULT_PORT)
    missing = []
    for name in parts(port):
        pid = running(name)
        print(f"  {name:14} {'not running' if pid is None else f'runs, pid {pid}'}")
        if pid is None:
            missing.append(name)
    if project.uses_embedded(ROOT, os.environ):
        pid = embedded.status(ROOT)
        print(f"  {'database':14} {'not running' if pid is None else f'runs, pid {pid} (embedded)'}")
        if pid is None:
            missing.append("database")
    ill = {} if missing else {name: state for name, state in health(port).items() if state != "healthy"}
    for name, state in ill.items():
        print(f"  {name:14} Airflow says: {state}")
    if missing or ill:
        print(f"Not well: {', '.join([*missing, *ill])}. Start what is missing: make up. Why: make logs.")
        return 1
    print(f"All parts run: http://127.0.0.1:{port}")
    return 0


def logs() -> int:
    """Follow the logs of all parts."""
    files = [str(LOGS / f"{name}.log") for name in STOP_ORDER if (LOGS / f"{name}.log").exists()]
    if not files:
        print("No logs yet: `make up` writes them.")
        return 1
    os.execvp("tail", ["tail", "-n", "30", "-F", *files])


def sample() -> dict[str, dict[int, int]]:
    """Return PSS in KiB per part and pid; the tasks of a run belong to the scheduler."""
    found = {name: {p: processes.pss_kb(p) for p in sorted(family([name]))} for name in STOP_ORDER}
    database = embedded.status(ROOT)
    if database is not None:
        found["database"] = {p: processes.pss_kb(p) for p in sorted(processes.family([database]))}
    return found


def memory(seconds: int, as_json: bool) -> int:
    """Print PSS per process and in sum; over some seconds at 1 Hz also the peaks."""
    samples = []
    for second in range(max(seconds, 1)):
        if second:
            time.sleep(1)
        samples.append(sample())
    last = samples[-1]
    totals = [sum(sum(part.values()) for part in one.values()) for one in samples]
    peaks = {name: max(sum(one.get(name, {}).values()) for one in samples) / 1024 for name in last}
    if as_json:
        figures = {"seconds": seconds, "samples": len(samples), "last_mb": totals[-1] / 1024}
        print(json.dumps(figures | {"peak_mb": max(totals) / 1024, "part_peak_mb": peaks}))
        return 0
    print(f"  {'PSS, MB':>8}  {'pid':>7}  process")
    for name, members in last.items():
        row(sum(members.values()), "", name if members else f"{name} (not running)")
        for pid, kb in sorted(members.items(), key=lambda item: -item[1]):
            row(kb, str(pid), f"  {processes.command(pid)}")
    row(totals[-1], "", "sum")
    if seconds:
        each = ", ".join(f"{name} {mb:.0f}" for name, mb in peaks.items())
        row(max(totals), "", f"peak of the sum over {len(samples)} s at 1 Hz (peak of each: {each})")
    return 0


def row(kb: int, pid: str, text: str) -> None:
    print(f"  {kb / 1024:8.1f}  {pid:>7}  {text}")


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "logs", "memory", "migrate", "prepare"])
    parser.add_argument("--seconds", type=int, default=0, help="memory: sample that long, once a second")
    parser.add_argument("--json", action="store_true", help="memory: figures as JSON")
    chosen = parser.parse_args()
    try:
        if chosen.command == "memory":
            return memory(chosen.seconds, chosen.json)
        if chosen.command == "migrate":
            migrate(os.environ | project.environment(ROOT, os.environ))
            return 0
        return {"up": up, "down": down, "status": status, "logs": logs, "prepare": prepare}[chosen.command]()
    except TradecoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
