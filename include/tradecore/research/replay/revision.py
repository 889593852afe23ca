"""Another revision of the code: a git worktree of it below .local, and the computing in a process that imports it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tradecore import settings as configured
from tradecore.errors import ConfigError, TradecoreError
from tradecore.research.replay import recompute
from tradecore.research.replay.day import Day, Record
from tradecore.settings import Settings

TIMEOUT_S = 1_800  # the kernels of a revision that was never run here are compiled first
KEPT_WORKTREES = 3


def compute(day: Day, settings: Settings, revision: str) -> Record:
    """Return the records of a day as another revision computes them.

    Raises ConfigError outside a git checkout, for an unknown revision, and for one that cannot take this day.
    """
    tree = _worktree(settings, revision)
    home = tree if settings.home == configured.PACKAGE_HOME else settings.home
    with TemporaryDirectory(dir=tree.parent) as folder:
        where = Path(folder)
        texts = {
            "all.yaml": settings.trading.model_dump_json(),
            "written.yaml": settings.trading.model_dump_json(exclude_defaults=True),
        }
        recompute.save(day, texts, home, where)
        _run([sys.executable, str(Path(recompute.__file__)), str(tree / "include"), folder], revision)
        record: Record = json.loads((where / "record.json").read_text())
    return record


def _run(command: list[str], revision: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"revision {revision} did not finish within {TIMEOUT_S} s.", next_step="replay without --code"
        ) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigError(
            f"revision {revision} cannot compute this day: {said}",
            next_step="choose a later revision: one whose records and configuration are those of this database",
            revision=revision,
        )


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(configured.PACKAGE_HOME), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    except FileNotFoundError as error:
        raise ConfigError("--code needs git, which is not installed.", next_step="install git") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or [""])[-1]
        raise ConfigError(f"git {arguments[0]}: {said}", next_step="name a revision that `git log` shows") from error
    return done.stdout.strip()


def _worktree(settings: Settings, revision: str) -> Path:
    """Return a worktree of a revision, kept for the next time: its compiled kernels belong to its path."""
    if not (configured.PACKAGE_HOME / ".git").exists():
        raise ConfigError(
            f"--code needs a git checkout, and {configured.PACKAGE_HOME} is none.",
            next_step="clone the repository, or replay with the code that is installed",
        )
    if revision.startswith("-"):
        raise ConfigError(f"{revision!r} is no revision.", next_step="name one that `git log` shows")
    commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}")
    folder = settings.local_dir / "replay"
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / commit
    if not (tree / "include" / "tradecore").is_dir():
        shutil.rmtree(tree, ignore_errors=True)
        _git("worktree", "prune")
        _git("worktree", "add", "--detach", str(tree), commit)
    _prune(folder, tree)
    return tree


def _prune(folder: Path, present: Path) -> None:
    """Remove all but the newest worktrees and the present one."""
    others = [p for p in folder.iterdir() if p.is_dir() and p != present and (p / ".git").exists()]
    for old in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT_WORKTREES - 1 :]:
        try:
            _git("worktree", "remove", "--force", str(old))
        except TradecoreError:
            shutil.rmtree(old, ignore_errors=True)
