"""A planted kernel change turns the reference red; a planted shell change turns stages against fold red.

Each fault of tests/mutants.py is planted in a copy of the tree, and the comparison that should notice it runs there in
a process of its own. The copy without a fault passes. CI tries a few; `make mutants` tries all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
import yaml
from mutant_trial import FIRST_BAR, GREEN, LAST, RED, REFUSED
from parity_case import NOW, REPO

from mutants import KERNEL, SHELL, Mutant
from tradecore import pipeline, settings

SOME = 2
ALL = pytest.param(None, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


class Copy:
    """A copy of the sources in which faults are planted and comparisons run."""

    def __init__(self, root: Path, **environ: str) -> None:
        self.root = root
        ignore = shutil.ignore_patterns("__pycache__", ".pytest_cache")
        for name in ("include", "tests"):
            shutil.copytree(REPO / name, root / name, ignore=ignore)
        paths = [root / p for p in ("include", "tests", "tests/property", "tests/integration")]
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "MPLCONFIGDIR")}
        self.environ = kept | {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",  # a fault is younger than a second, and of the same size now and then
            "NUMBA_DISABLE_JIT": "1",
            "NUMBA_CACHE_DIR": str(root / "numba"),
            **environ,
        }

    def compare(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """Run a comparison here; return its exit code and its last line. Fails on an error that is no verdict."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(self.root / "tests/integration/mutant_trial.py"), *arguments],
            env=self.environ | environ,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (GREEN, RED, REFUSED), done.stdout + done.stderr
        return done.returncode, " ".join(done.stdout.splitlines()[-3:])

    def red(self, mutants: Sequence[Mutant], *arguments: str, **environ: str) -> None:
        """Plant one fault at a time: each must be noticed."""
        survivors = []
        for number, mutant in enumerate(mutants):
            before = mutant.apply(self.root)
            code, said = self.compare(*(a.format(number=number) for a in arguments), **environ)
            (self.root / "include/tradecore" / mutant.file).write_text(before, encoding="utf-8")
            print(f"  {mutant.name:<48} {said[:180]}")
            if code != (REFUSED if mutant.refused else RED):
                survivors.append(f"{mutant.name}: {said}")
        assert not survivors, "not noticed:\n" + "\n".join(survivors)
        print(f"proof: {len(mutants)} planted changes, each turned `{arguments[0]}` red")


@pytest.mark.parametrize("mutant", [*KERNEL, *SHELL], ids=lambda mutant: mutant.name)
def test_a_planted_change_fits_the_source_as_it_is(mutant: Mutant):
    """`make mutants` takes minutes; a text that no longer stands in its file is seen here."""
    path = REPO / "include/tradecore" / mutant.file
    compile(mutant.planted(path.read_text(encoding="utf-8")), str(path), "exec")


@pytest.mark.parametrize("count", [pytest.param(SOME, id="some"), ALL])
def test_planted_kernel_changes_turn_the_reference_red(tmp_path: Path, count: int | None):
    copy = Copy(tmp_path)
    assert copy.compare("reference") == (GREEN, "")
    copy.red(KERNEL[:count], "reference")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_planted_change_of_a_compiled_kernel_turns_the_reference_red(tmp_path: Path):
    """The same with the compiler on: the mutants above are not an effect of running kernels as plain Python."""
    Copy(tmp_path).red(KERNEL[:1], "reference", NUMBA_DISABLE_JIT="0")


@pytest.mark.db
@pytest.mark.parametrize("count", [pytest.param(SOME, id="some"), ALL])
def test_planted_shell_changes_turn_stages_against_fold_red(
    tmp_path: Path, database_url: str, conn: psycopg.Connection, count: int | None
):
    config = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
    config["data"].update(restate_sessions=1, options={"folder": str(REPO / "include/sample_data")})
    config["strategies"]["ma_crossover"]["params"] = {
        "short_period": 5,
        "long_period": 7,
        "average": "ema",
        "confidence_threshold": 0.1,
    }
    config["risk"].update(max_daily_loss=0.0003, rebalance_band_frac=0.0001, min_order_notional_usd=10)
    config["execution"].update(participation_frac=0.000001, remainder="carry", max_order_age_bars=2)
    path = tmp_path / "trading.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    (tmp_path / "no.env").write_text("")
    environ = {
        "DATABASE_URL": database_url,
        "TRADECORE_ENV_FILE": str(tmp_path / "no.env"),
        "TRADECORE_LOCAL_DIR": str(tmp_path / "local"),
        "ALERT_CONSOLE": "false",
        "LOG_LEVEL": "ERROR",
    }
    pipeline.load_history(settings.load(environ, path), conn, first=FIRST_BAR, last=LAST, now=NOW)
    copy = Copy(tmp_path / "copy", **environ)
    code, said = copy.compare("stages", str(path), "replay:sound")
    assert code == GREEN, said
    happened = dict(zip(said.split()[::2], map(int, said.split()[1::2]), strict=True))
    least = {"fills": 4, "book_working_orders": 2, "state_events": 2}
    assert all(happened[what] >= n for what, n in least.items()), f"not exercised: {happened}, wanted {least}"
    copy.red(SHELL[:count], "stages", str(path), "replay:fault-{number}")
