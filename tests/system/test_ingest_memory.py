"""The memory of an ingest task: 500 symbols of a session and its look-back over HTTP, above a task that does nothing.

Both are processes that import what every task of ours imports, Airflow's SDK too, and open the database.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import psutil
import pytest
import yaml

from tradecore.storage.connection import connect
from vendor_standin import alpaca as face
from vendor_standin.client import running

pytestmark = [pytest.mark.db, pytest.mark.slow]
REPO = Path(__file__).resolve().parents[2]
SYMBOLS, MOST_MB = 500, 250
FIRST, LAST = date(2005, 2, 17), date(2005, 2, 25)
IDLE = """
import os, sys
from airflow.sdk import get_current_context, task
from tradecore_ui import task_env
from tradecore.settings import load
from tradecore.storage.connection import connect
found = load()
conn = connect(found.database_url)
"""
INGEST = f"""
from datetime import UTC, date, datetime
from tradecore import ingestion, pipeline
from tradecore.context import book_calendar
calendar = book_calendar(found)
done = ingestion.ingest_range(found, conn, calendar, first=date.fromisoformat({str(FIRST)!r}),
    last=date.fromisoformat({str(LAST)!r}), actions_until=calendar.next_session(date.fromisoformat({str(LAST)!r})),
    now=datetime(2026, 1, 2, 12, tzinfo=UTC))
print(done["rows"], done["symbols"])
"""


def peak_mb(code: str, environ: dict[str, str]) -> tuple[float, str]:
    """Run a program; return its highest PSS in MB, and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watched, peak = psutil.Process(process.pid), 0.0
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_full_info().pss / 2**20)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        out, err = process.communicate()
        assert process.returncode == 0, err
    return peak, out


def write_prices(folder: Path) -> list[str]:
    """Write the sample's IBM under 500 names."""
    names = [f"S{k:03d}" for k in range(SYMBOLS)]
    with (REPO / "include/sample_data/IBM.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if row[0] == "session_date" or "2005-01" <= row[0][:7] <= "2005-03"]
    text = "\n".join(",".join(row) for row in rows) + "\n"
    for name in names:
        (folder / f"{name}.csv").write_text(text)
    (folder / "corporate_actions.csv").write_text("symbol,ex_date,kind,ratio_num,ratio_den,dividend_usd,pay_date\n")
    return names


@pytest.mark.timeout(900)
def test_an_ingest_of_500_symbols_stays_small(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "prices").mkdir()
    names = write_prices(tmp_path / "prices")
    with running("--prices", str(tmp_path / "prices"), "--first", "2005-01-03", "--last", str(LAST)) as standin:
        document = {
            "universe": {"name": "many", "symbols": names},
            "data": {"feed": "alpaca", "options": {"base_url": standin.url, "timeout_s": 60.0}},
            "strategies": {"buy_and_hold": {}},
        }
        (tmp_path / "trading.yaml").write_text(yaml.safe_dump(document))
        environ = os.environ | {
            "TRADECORE_HOME": str(tmp_path),
            "TRADECORE_CONFIG": "./trading.yaml",
            "DATABASE_URL": database_url,
            "ALPACA_API_KEY": face.KEY,
            "ALPACA_SECRET_KEY": face.SECRET,
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": os.pathsep.join([str(REPO / "include"), str(REPO / "plugins")]),
        }
        nothing, _ = peak_mb(IDLE, environ)
        ingest, said = peak_mb(IDLE + INGEST, environ)
    assert said.split() == [str(SYMBOLS * 6), str(SYMBOLS)]
    with connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM bar_versions").fetchone() == (SYMBOLS * 6,)
    print(f"proof: peak memory (PSS) of an ingest of {SYMBOLS} symbols {ingest:.0f} MB, of nothing {nothing:.0f} MB")
    assert ingest - nothing <= MOST_MB
