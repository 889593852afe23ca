"""The memory of a sweep: 1,000,000 pairs through the command, to database, Parquet and page, need what 10,000 need."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import psutil
import pytest
import yaml
from project_home import NOW, REPO

from tradecore import pipeline, settings
from tradecore.storage.connection import connect

pytestmark = [pytest.mark.db, pytest.mark.slow]
SPAN = ("--first", "2005-01-03", "--last", "2012-12-31")
PAIRS = ("ma_crossover", "--param", "short_period=2:250", "--param", "long_period=251:1000", "--sample", "random")
FEW, MANY = 10_000, 1_000_000


def peak_mb(command: list[str], environ: dict[str, str]) -> float:
    """Run a command; return the highest sum of PSS of it and its children, in MB."""
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        root, peak = psutil.Process(process.pid), 0.0
        while process.poll() is None:
            try:
                peak = max(peak, sum(p.memory_full_info().pss for p in [root, *root.children(recursive=True)]) / 2**20)
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.05)
        assert process.returncode == 0, process.stderr.read()
    return peak


@pytest.mark.timeout(3_000)
def test_memory_does_not_grow_with_the_pairs(tmp_path: Path, database_url: str):
    config = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
    config["data"]["options"]["folder"] = str(REPO / "include" / "sample_data")
    (tmp_path / "trading.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    own = {"TRADECORE_HOME": str(tmp_path), "TRADECORE_CONFIG": "./trading.yaml", "DATABASE_URL": database_url}
    with connect(database_url) as conn:
        pipeline.load_history(settings.load(own), conn, first=date(2000, 3, 1), last=date(2012, 12, 31), now=NOW)
    environ = os.environ | own | {"PYTHONPATH": str(REPO / "include"), "TRADECORE_LOCAL_DIR": str(tmp_path / "local")}
    command = [sys.executable, "-m", "tradecore", "sweep", *PAIRS, *SPAN, "--jobs", "1"]
    peaks = {n: peak_mb([*command, "--n", str(n), "--seed", str(n)], environ) for n in (FEW, FEW + 1, MANY)}
    ratio = peaks[MANY] / peaks[FEW + 1]  # the first run compiles
    print(f"proof: peak memory (PSS) {peaks[FEW + 1]:.0f} MB for {FEW:,} pairs, {peaks[MANY]:.0f} MB for {MANY:,}")
    with connect(database_url) as conn:
        stored = conn.execute("SELECT count(*) FROM sweep_results GROUP BY sweep_id ORDER BY 1").fetchall()
    assert stored == [(FEW,), (FEW + 1,), (MANY,)]
    assert 0.9 < ratio < 1.1
