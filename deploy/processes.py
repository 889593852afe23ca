"""Processes of this machine as /proc shows them: families, start times, memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One live process: parent, session, and its start in clock ticks since boot (tells a reused pid)."""

    pid: int
    parent: int
    session: int
    started: int


def table() -> dict[int, Process]:
    """Return all live processes by pid; zombies are dead."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            process = look(int(entry.name))
            if process is not None:
                found[process.pid] = process
    return found


def look(pid: int) -> Process | None:
    """Return the process if it lives."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    if fields[0] in "ZX":
        return None
    return Process(pid=pid, parent=int(fields[1]), session=int(fields[3]), started=int(fields[19]))


def boot_id() -> str:
    """Return what changes with every boot: pids and start times before it mean nothing."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def family(leaders: Iterable[int]) -> set[int]:
    """Return the leaders and all that descend from them or share their session, without the caller.

    A session's number stays taken while it has members: those of a dead leader are found as well.
    """
    processes, sessions = table(), set(leaders)
    found = sessions & processes.keys()
    grown = True
    while grown:
        more = {p.pid for p in processes.values() if p.parent in found or p.session in sessions} - found
        found |= more
        grown = bool(more)
    return found - {os.getpid()}


def marked(mark: str) -> set[int]:
    """Return the processes that were started with NAME=value in their environment, without the caller."""
    return {pid for pid in table() if mark.encode() in _environment(pid)} - {os.getpid()}


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def end(pids: set[int], name: str, patience_s: float) -> None:
    """Send a signal (by name) to the processes and wait until they are gone or the patience is over."""
    started = {pid: process.started for pid, process in table().items() if pid in pids}
    for pid in started:
        try:
            os.kill(pid, getattr(signal, name))
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + patience_s
    while any((now := look(pid)) and now.started == at for pid, at in started.items()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)


def pss_kb(pid: int) -> int:
    """Return the proportional set size in KiB; 0 if the process is gone or not ours to look at."""
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0


def command(pid: int) -> str:
    """Return the command line, shortened."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "?"
    programs = [Path(word).name if word.startswith("/") else word for word in words[:2]]
    return " ".join([*programs, *words[2:]]).strip()[:60]
