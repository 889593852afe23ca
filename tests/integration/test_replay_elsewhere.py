"""A day proved in other surroundings: kernels compiled anew, kernels by another numba, another revision's code.

`make replay-proof` puts the other numba below .local and runs what is slow here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from project_home import NOW, REPO, Project, make, open_for_trading

from tradecore import pipeline, settings
from tradecore.research.replay import reading, recompute, revision
from tradecore.research.replay.day import compute
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
FIRST = date(2005, 2, 24)
SECOND_NUMBA = REPO / ".local" / "second-numba"
VERSIONS = (
    "import json, numba, tradecore.market, sys; from tradecore import _kernels;"
    "print(json.dumps({'numba': numba.__version__}))"
)


@pytest.fixture(scope="module")
def traded(tmp_path_factory, module_database_url) -> Project:
    """A project that traded three sessions; replays leave no trace in it."""
    project = make(tmp_path_factory.mktemp("traded"), module_database_url)
    with closing(connect(module_database_url)) as conn:
        open_for_trading(project, conn, FIRST)
        for day in project.sessions(3, FIRST):
            project.trade(conn, day)
    return project


def prove_in_a_process(project: Project, day: date, cache: Path, *, overlay: Path | None = None) -> dict[str, Any]:
    """Run `prove-day` in a process of its own with a numba cache of its own, and another numba in front if given."""
    path = [str(overlay)] if overlay else []
    environ = {
        **os.environ,
        **project.environ,
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONPATH": os.pathsep.join([*path, str(REPO / "include")]),
    }
    command = [sys.executable, "-m", "tradecore", "prove-day", str(day), "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1_800, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    version = subprocess.run(
        [sys.executable, "-c", VERSIONS], env=environ, capture_output=True, text=True, timeout=300, check=True
    )
    return {**json.loads(done.stdout), **json.loads(version.stdout)}


@pytest.mark.slow
def test_cold_cache_and_a_second_numba_give_the_same_hashes(traded, tmp_path):
    assert SECOND_NUMBA.is_dir(), "no second numba here: make replay-proof installs it, then runs this"
    day = traded.sessions(3, FIRST)[2]
    here = json.loads(traded.run("prove-day", str(day), "--json").out)
    cold = prove_in_a_process(traded, day, tmp_path / "cold")
    assert list((tmp_path / "cold").rglob("*.nbc")), "not exercised: nothing was compiled"
    other = prove_in_a_process(traded, day, tmp_path / "other", overlay=SECOND_NUMBA)
    assert list((tmp_path / "other").rglob("*.nbc")), "not exercised: nothing was compiled"
    assert other["numba"] != cold["numba"]
    assert here["hashes"] == cold["hashes"] == other["hashes"]
    assert sorted(here["hashes"]) == ["data", "plan", "risk", "settle", "signal"]
    print(f"proof: the five hashes of {day} are equal with a cold cache, and under numba {other['numba']} beside "
          f"{cold['numba']}")  # fmt: skip


@pytest.mark.skipif(not (REPO / ".git").exists(), reason="no git checkout")
def test_another_revision_computes_in_a_worktree_of_its_own(traded, monkeypatch):
    """The checkout's own HEAD, in a process of its own, without compiling."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # of the process that is started
    day = str(traded.sessions(3, FIRST)[1])
    said = traded.run("replay", day, "--code", "HEAD", "--json")
    assert said.code == 0, said.err
    assert said.document["hashes"]["replayed"] == said.document["hashes"]["happened"]
    trees = [p for p in (traded.home / ".local" / "replay").iterdir() if (p / ".git").exists()]
    assert len(trees) == 1, "kept for the next time"
    unknown = traded.run("replay", day, "--code", "no-such-revision")
    assert unknown.code == 2
    assert "git rev-parse" in unknown.err
    for tree in trees:
        subprocess.run(["git", "-C", str(REPO), "worktree", "remove", "--force", str(tree)], check=True)


def test_without_a_checkout_another_revision_is_refused(traded, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "PACKAGE_HOME", tmp_path)
    said = traded.run("replay", str(traded.sessions(3, FIRST)[1]), "--code", "HEAD")
    assert said.code == 2
    assert "needs a git checkout" in said.err


def test_a_day_in_a_folder_reads_back_the_same(traded, tmp_path):
    """What another process computes from is what this one does, to the last array."""
    found = traded.settings()
    with closing(connect(traded.database_url)) as conn:
        day = traded.sessions(3, FIRST)[2]
        (ctx,) = pipeline.contexts(found, conn, book="sim", session_date=day, now=NOW)
        with reading.reading_only(conn):
            read = reading.read(ctx)
    texts = {"all.yaml": read.settings.trading.model_dump_json()}
    recompute.save(read.day, texts, found.home, tmp_path)
    assert compute(recompute.load(tmp_path), read.settings) == compute(read.day, read.settings)
    again = settings.load({}, tmp_path / "all.yaml")
    assert again.config_hash() == read.then.config_hash


def test_a_revision_that_cannot_take_the_day_says_why(traded, monkeypatch):
    monkeypatch.setattr(revision, "_worktree", lambda found, name: _empty_tree(found))
    said = traded.run("replay", str(traded.sessions(3, FIRST)[1]), "--code", "HEAD~1")
    assert said.code == 2
    assert "cannot compute this day" in said.err


def _empty_tree(found: settings.Settings) -> Path:
    tree = found.local_dir / "replay" / "empty"
    (tree / "include" / "tradecore").mkdir(parents=True, exist_ok=True)
    return tree
