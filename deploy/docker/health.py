"""Health check of one container.

    health.py SchedulerJob|DagProcessorJob    is its heartbeat in the database recent?
    health.py watch|stream                    does the watch's loop live, does the stream?

`airflow jobs check` says the first too, but imports all of Airflow each time: seconds of a small machine's
time. The connection comes from libpq's own variables (PGHOST, PGUSER, PGPASSWORD, ...).
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg

# Airflow's own limit; the components report every 5 s.
LIMIT_S = 30.0

AGE = """
SELECT extract(epoch FROM now() - max(latest_heartbeat))::float8
FROM public.job WHERE job_type = %s AND state = 'running'
"""


def component(job_type: str) -> int:
    """Print the age of a component's last heartbeat; 0 when it is recent, else 1."""
    try:
        with psycopg.connect(connect_timeout=5) as connection:
            row = connection.execute(AGE, [job_type]).fetchone()
    except psycopg.Error as error:
        print(f"{job_type}: no answer from the database: {error}")
        return 1
    age_s = None if row is None else row[0]
    if age_s is None:
        print(f"{job_type}: no heartbeat of a running one")
        return 1
    print(f"{job_type}: heartbeat {age_s:.1f} s ago")
    return 0 if age_s <= LIMIT_S else 1


def lives(name: str, proc: Path = Path("/proc")) -> int:
    """Look for the process `python -m tradecore NAME` that is neither stopped nor a zombie."""
    for status in proc.glob("[0-9]*/stat"):
        try:
            arguments = (status.parent / "cmdline").read_bytes().split(b"\0")
            state = status.read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # it ended while we looked
        if arguments[1:4] == [b"-m", b"tradecore", name.encode()] and state not in "TtZX":
            print(f"{name}: process {status.parent.name}, state {state}")
            return 0
    print(f"{name}: no such process")
    return 1


def main(arguments: list[str]) -> int:
    """Run the check that the argument names."""
    if arguments in (["SchedulerJob"], ["DagProcessorJob"]):
        return component(arguments[0])
    if arguments in (["watch"], ["stream"]):
        return lives(arguments[0])
    print("usage: health.py SchedulerJob|DagProcessorJob|watch|stream", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
