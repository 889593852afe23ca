"""What the doctor says of the machine: each finding against a machine as it would look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tradecore import machine

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def meminfo(path: Path, available_mb: int) -> Path:
    path.write_text(
        f"MemTotal: {4_000 * 1024} kB\nMemFree: 1 kB\nMemAvailable: {available_mb * 1024} kB\nHugePages: 0\n"
    )
    return path


@pytest.mark.parametrize(("available_mb", "ok"), [(399, False), (400, True)])
def test_memory_is_what_a_session_needs(tmp_path: Path, available_mb: int, ok: bool) -> None:
    found = machine.memory(meminfo(tmp_path / "meminfo", available_mb))
    assert found is not None
    assert (found.ok, found.found) == (ok, f"{available_mb} of 4000 MB available; a session needs 400")
    assert machine.memory(tmp_path / "none") is None


@pytest.mark.parametrize(("size", "ok"), [(4096, True), (16384, True), (65536, True), (131072, False)])
def test_pages_of_a_pi_5_are_fine(size: int, ok: bool) -> None:
    assert machine.page_size(size).ok is ok


def test_clock_is_judged_where_systemd_keeps_it(tmp_path: Path) -> None:
    assert machine.clock(tmp_path) is None
    (tmp_path / "timesync").mkdir()
    unset = machine.clock(tmp_path)
    assert unset is not None
    assert not unset.ok
    (tmp_path / "timesync" / "synchronized").touch()
    kept = machine.clock(tmp_path)
    assert kept is not None
    assert kept.ok


@pytest.mark.parametrize(("text", "ok"), [("79900\n", True), ("80000\n", False)])
def test_heat(tmp_path: Path, text: str, ok: bool) -> None:
    sensor = tmp_path / "temp"
    assert machine.heat(sensor) is None
    sensor.write_text(text)
    found = machine.heat(sensor)
    assert found is not None
    assert found.ok is ok


def test_a_restart_that_waits_is_told_with_its_day(tmp_path: Path) -> None:
    assert machine.restart(tmp_path / "reboot-required") is None
    (tmp_path / "reboot-required").touch()
    found = machine.restart(tmp_path / "reboot-required")
    assert found is not None
    assert not found.ok
    assert "waits for a restart since 2" in found.found


def test_backups_are_old_after_three_days_whichever_folder_they_are_in(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    assert machine.backups(folders, NOW).ok, "a machine that never made one is told how, and is not ill"
    folders[1].mkdir()
    (folders[1] / "tradecore-20260227T120000Z.backup").touch()
    assert machine.backups(folders, NOW).ok
    assert not machine.backups(folders, NOW + timedelta(seconds=1)).ok
    (folders[1] / "tradecore-20260301T120000Z.failed").touch()
    assert machine.backups(folders, NOW).found == "1, the newest of 2026-02-27 12:00 UTC; 1 failed"


def test_every_finding_that_can_be_bad_has_a_next_step(tmp_path: Path) -> None:
    meminfo(tmp_path / "meminfo", 1)
    bad = [machine.memory(tmp_path / "meminfo"), machine.page_size(1 << 20), machine.backups([], NOW)]
    assert [f.next_step != "" for f in bad if f is not None and not f.ok] == [True, True]
