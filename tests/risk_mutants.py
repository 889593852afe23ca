"""Mutation testing of limits and checks by cosmic-ray: `make risk-mutants` runs this in an environment of its own.

    .local/risk-mutants/bin/python tests/risk_mutants.py [--only NAME] [--sample N]

Each mutant is planted in a copy of the sources, with NUMBA_DISABLE_JIT=1 so that no compiled kernel hides it, and the
tests of what it changes must turn red. Survivors are listed; those of KEPT change nothing that can be seen, and say
why. Exit code 1 if one survives that is not there. --sample takes every so many a mutant only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
WORK = HOME / ".local" / "risk-mutants-work"
TIMEOUT_S = 120
TARGETS = {
    "limits": (
        "include/tradecore/risk/limits/_kernels.py",
        "tests/unit/risk/test_limits.py",
    ),
    "checks": (
        "include/tradecore/execution/checks.py",
        "tests/unit/execution/test_checks.py",
    ),
}
# Mutants that change nothing that can be seen: (target, a part of the operator, a part of the line) -> why.
KEPT: dict[tuple[str, str, str], str] = {
    ("checks", "", "@dataclass"): "frozen, slots and keyword-only bind who writes code, not what a check finds",
    ("checks", "Lt_LtE", "if s.qty < 0), Decimal(0)"): "an order of nothing has nothing left",
    ("checks", "Gt_GtE", "if s.qty > 0), Decimal(0)"): "an order of nothing has nothing left",
    ("checks", "Lt_LtE", "if f.qty < 0"): "an order of nothing is none",
    ("checks", "Gt_GtE", "f.qty > 0"): "an order of nothing is none",
    ("limits", "Number", "HALVINGS"): "a factor to half a ppm, or to two",
}
CONFIG = """[cosmic-ray]
module-path = "{module}"
timeout = {timeout}
excluded-modules = []
test-command = "{python} -m pytest -x -q -p no:cacheprovider -p no:randomly {tests}"

[cosmic-ray.distributor]
name = "local"
"""


def copy_sources() -> None:
    """Copy what the tests import; never the working tree itself: mutants are written into files."""
    shutil.rmtree(WORK, ignore_errors=True)
    for part in ("include/tradecore", "tests/unit/risk", "tests/unit/execution"):
        shutil.copytree(HOME / part, WORK / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("tests/reference_risk.py", "tests/golden/risk_peers.json"):
        (WORK / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOME / file, WORK / file)
    (WORK / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["include", "tests"]\n')


def run(*command: str) -> None:
    """Run cosmic-ray in the copy."""
    environ = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-m", "cosmic_ray.cli", *command], cwd=WORK, env=environ, check=True)


def thin_out(database: Path, every: int) -> None:
    """Keep every so many a mutant."""
    with sqlite3.connect(database) as db:
        jobs = [row[0] for row in db.execute("SELECT job_id FROM work_items ORDER BY job_id")]
        for number, job in enumerate(jobs):
            if number % every:
                db.execute("DELETE FROM mutation_specs WHERE job_id = ?", (job,))
                db.execute("DELETE FROM work_items WHERE job_id = ?", (job,))


def outcome(database: Path) -> tuple[int, list[tuple[str, int, str]]]:
    """Return how many mutants ran, and the survivors: what was changed, in which line, the line."""
    with sqlite3.connect(database) as db:
        rows = db.execute(
            "SELECT m.operator_name, m.start_pos_row, m.module_path, r.test_outcome FROM work_results r"
            " JOIN mutation_specs m USING (job_id)"
        ).fetchall()
    survived = []
    for operator, line, module, result in rows:
        if str(result).lower().endswith("survived"):
            text = (HOME / module).read_text(encoding="utf-8").splitlines()[line - 1].strip()
            survived.append((str(operator), int(line), text))
    return len(rows), survived


def why(target: str, operator: str, line: str) -> str:
    """Return why a mutant of a line may survive, or ''."""
    found = (reason for (of, how, part), reason in KEPT.items() if of == target and how in operator and part in line)
    return next(found, "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(TARGETS), help="one target")
    parser.add_argument("--sample", type=int, default=1, help="run every N-th mutant")
    arguments = parser.parse_args()
    copy_sources()
    bad = 0
    for name, (module, tests) in TARGETS.items():
        if arguments.only not in (None, name):
            continue
        config, database = WORK / f"{name}.toml", WORK / f"{name}.sqlite"
        config.write_text(CONFIG.format(module=module, timeout=TIMEOUT_S, python=sys.executable, tests=tests))
        run("init", config.name, database.name)
        run("baseline", config.name)
        thin_out(database, arguments.sample)
        run("exec", config.name, database.name)
        count, survivors = outcome(database)
        known = [s for s in survivors if why(name, s[0], s[2])]
        text = f"{name}: {count} mutants, {count - len(survivors)} killed, {len(known)} survive for a stated reason"
        print(f"proof: {text}")
        for survivor in survivors:
            reason = why(name, survivor[0], survivor[2]) or "NOT EXPLAINED"
            print(f"  survived: {json.dumps(survivor)}: {reason}")
            bad += reason == "NOT EXPLAINED"
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
