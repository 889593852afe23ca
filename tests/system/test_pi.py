"""The path without containers: setup_pi.sh, deploy.sh and the units, as far as a machine without systemd can show."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import debian_root
from private_apt import Unavailable

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
SERVICES = sorted(UNITS.glob("*.service"))
STAYING = {"scheduler", "dag-processor", "api-server", "watch", "stream"}
# systemd's own estimate of what a broken-in service could reach, 0 to 10; a service without settings has 9.6.
EXPOSURE_MAX = 2.5
SCRIPTS = [
    *("bootstrap.sh", "clean.sh", "demo.sh", "deploy.sh", "env.sh", "lock.sh", "run", "setup_pi.sh", "test.sh"),
    "docker/entrypoint.sh",
]


def limits(machine: str) -> dict[str, str]:
    lines = (ROOT / "deploy" / "memory" / f"{machine}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def options(path: Path) -> dict[str, list[str]]:
    """Return {key: values} of a unit, sections together."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith(("#", ";")):
            found.setdefault(key, []).append(value)
    return found


# -- the scripts


def test_every_shell_script_of_deploy_is_in_the_list() -> None:
    files = [p for p in (ROOT / "deploy").rglob("*") if p.is_file() and p.suffix in ("", ".sh")]
    scripts = {p.relative_to(ROOT / "deploy").as_posix() for p in files if p.suffix == ".sh" or p.name == "run"}
    assert scripts == set(SCRIPTS)


@pytest.mark.skipif(
    SHELLCHECK is None and platform.machine() != "x86_64", reason="no wheel for this machine: apt install shellcheck"
)
def test_shell_scripts_are_clean_for_shellcheck() -> None:
    paths = [str(ROOT / "deploy" / name) for name in SCRIPTS]
    assert SHELLCHECK, "run deploy/bootstrap.sh dev"
    command = [SHELLCHECK, "--severity=warning", *paths, str(ROOT / ".ci" / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", ["setup_pi.sh", "deploy.sh"])
def test_help_explains_and_an_unknown_option_is_refused(script: str) -> None:
    command = ["sh", str(ROOT / "deploy" / script)]
    said = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert said.returncode == 0
    named = set(re.findall(r"^ {8}(?:[-\w |]*\| )?(--[\w-]+)(?: \||\))", (ROOT / "deploy" / script).read_text(), re.M))
    named.discard("--help")
    assert len(named) >= 4
    assert not {option for option in named if option not in said.stdout}
    refused = subprocess.run([*command, "--no-such"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "unknown option --no-such" in refused.stderr


def test_only_an_empty_device_is_formatted(tmp_path: Path) -> None:
    """A disk of partitions has no TYPE for blkid: it is not empty all the same."""
    if shutil.which("blkid") is None:
        pytest.skip("what a device holds is NOT looked at: no blkid here")
    script = (ROOT / "deploy" / "setup_pi.sh").read_text()
    (holds,) = re.findall(r"^holds\(\) .*$", script, re.M)
    assert script.count("blkid -p") == 1, "nothing else decides"
    entry = bytes([0, 0, 2, 0, 0x83, 0, 2, 0]) + (2048).to_bytes(4, "little") + (16384).to_bytes(4, "little")
    images = {"": b"", "dos": bytes(446) + entry + bytes(48) + b"\x55\xaa"}
    for wanted, head in images.items():
        image = tmp_path / "a disk.img"
        image.write_bytes(head.ljust(16 << 20, b"\0"))
        said = subprocess.run(["sh", "-euc", f'{holds}\nholds "$1"', "sh", str(image)], capture_output=True, text=True)
        assert (said.returncode, said.stdout.strip()) == (0, wanted)


# -- the units


@pytest.mark.parametrize("path", SERVICES, ids=lambda p: p.stem)
def test_every_service_is_sandboxed_and_has_a_limit(path: Path) -> None:
    unit = options(path)
    assert unit["User"] == unit["Group"] == ["tradecore"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ReadWritePaths"] == ["/srv/tradecore"], "code and packages cannot be changed by what runs"
    assert unit["CapabilityBoundingSet"] == [""]
    switches = "NoNewPrivileges ProtectHome PrivateTmp PrivateDevices RestrictNamespaces LockPersonality"
    for key in [*switches.split(), *(f"ProtectKernel{part}" for part in ("Tunables", "Modules", "Logs"))]:
        assert unit[key] == ["yes"], key
    assert "@system-service" in unit["SystemCallFilter"]
    (placeholder,) = re.findall(r"^@(\w+)@$", unit["MemoryMax"][0])
    for machine in ("4gb", "8gb"):
        assert limits(machine)[placeholder].endswith("M")


def test_parts_start_in_order_under_one_target_and_again_within_limits() -> None:
    assert {p.stem.removeprefix("tradecore-") for p in SERVICES} == STAYING | {"prepare", "backup"}
    for name in STAYING:
        unit = options(UNITS / f"tradecore-{name}.service")
        assert unit["After"] == ["tradecore-prepare.service"]
        assert unit["PartOf"] == unit["WantedBy"] == ["tradecore.target"]
        assert unit["Restart"] == ["on-failure"]
        assert int(unit["StartLimitBurst"][0]) * int(unit["RestartSec"][0]) < int(unit["StartLimitIntervalSec"][0])
    assert "postgresql.service" in options(UNITS / "tradecore-prepare.service")["After"][0]
    assert options(UNITS / "tradecore.target")["WantedBy"] == ["multi-user.target"]
    watch = options(UNITS / "tradecore-watch.service")
    assert (watch["Type"], watch["WatchdogSec"]) == (["notify"], ["180"])


def test_what_goes_first_when_memory_ends_is_pages_and_never_the_watch() -> None:
    order = {p.stem: int(options(p).get("OOMScoreAdjust", ["0"])[0]) for p in SERVICES}
    assert order["tradecore-backup"] > order["tradecore-api-server"] > order["tradecore-dag-processor"]
    assert order["tradecore-dag-processor"] > order["tradecore-stream"] > order["tradecore-scheduler"]
    assert order["tradecore-scheduler"] > order["tradecore-watch"]


@pytest.mark.parametrize(("machine", "memory_mb"), [("4gb", 4096), ("8gb", 8192)])
def test_limits_of_all_parts_fit_the_machine_with_a_sixth_left(machine: str, memory_mb: int) -> None:
    value = {key: int(text.removesuffix("M")) for key, text in limits(machine).items() if text.endswith("M")}
    keys = ("SCHEDULER_MEMORY", "DAG_PROCESSOR_MEMORY", "API_SERVER_MEMORY", "DB_MEMORY")
    assert sum(value[key] for key in keys) + 2 * value["SMALL_MEMORY"] <= memory_mb * 5 / 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units as deploy.sh writes them, for a place that exists, and what they refer to."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("the units are NOT verified: no systemd-analyze here")
    place = tmp_path_factory.mktemp("machine")
    program = place / "home/current/deploy/run"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (place / "units").mkdir()
    for path in UNITS.iterdir():
        text = path.read_text()
        for key, value in limits("4gb").items():
            text = text.replace(f"@{key}@", value)
        text = text.replace("/opt/tradecore", str(place / "home")).replace("/srv/tradecore", str(place))
        (place / "units" / path.name).write_text(text)
    (place / "units" / "postgresql.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    return place / "units"


def test_units_are_clean_for_systemd(written: Path) -> None:
    names = sorted(path.name for path in written.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(written / name) for name in names)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{written}:"},
        capture_output=True,
        text=True,
    )
    ours = [line for line in done.stderr.splitlines() if "tradecore" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("path", SERVICES, ids=lambda p: p.stem)
def test_exposure_of_each_service_is_low(written: Path, path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(written / path.name)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{written}:"},
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    print(f"{path.stem}: {found[1]}")
    assert float(found[1]) <= EXPOSURE_MAX, done.stdout


# -- setup_pi.sh on a real trixie


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A fresh trixie: a copy, so that what the script does to it is seen from the start."""
    try:
        pristine = debian_root.ensure(ROOT)
    except Unavailable as error:
        pytest.skip(f"setup_pi.sh is NOT run: {error}")
    root = tmp_path / "trixie"
    subprocess.run(["cp", "-a", str(pristine), str(root)], check=True)
    shutil.copytree(ROOT / "deploy", root / "srv" / "deploy")
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    for name in ("hosts", "ssl/certs/ca-certificates.crt"):
        if Path("/etc", name).exists():
            (root / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path("/etc", name), root / "etc" / name)
    subprocess.run(["sh", "-c", f"apt-config dump | grep '^Acquire::http' >{root}/etc/apt/apt.conf.d/90host || :"])
    return root


def setup(machine: Path, *arguments: str) -> str:
    """Run setup_pi.sh in it, in a mount namespace of its own: /proc is there, and nothing stays mounted."""
    script = (
        'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/run" &&'
        ' mkdir -p "$0/run/postgresql" && exec chroot "$0" sh -c \'chown postgres: /run/postgresql 2>/dev/null;'
        ' exec sh /srv/deploy/setup_pi.sh "$@"\' setup "$@"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, str(machine), *arguments],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def contents(machine: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted((machine / "etc").rglob("*")) if p.is_file() and not p.is_symlink()}


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_setup_makes_a_fresh_trixie_ready_and_changes_nothing_the_second_time(machine: Path) -> None:
    key = machine / "root" / ".ssh" / "authorized_keys"
    key.parent.mkdir(exist_ok=True)
    key.write_text("ssh-ed25519 AAAA somebody\n")
    untouched = contents(machine)
    wish = ("--allow", "192.168.1.0/24", "--address", "192.168.1.5/24", "--gateway", "192.168.1.1")
    planned = setup(machine, "--dry-run", *wish)
    assert contents(machine) == untouched, "a dry run changes nothing"
    assert int(re.search(r"Dry run: (\d+) changes", planned)[1]) > 10
    first = setup(machine, *wish)
    assert int(re.search(r"Done: (\d+) changes", first)[1]) > 10
    made = contents(machine)
    assert "Done: 0 changes." in setup(machine, *wish)
    assert contents(machine) == made, "the second run changes no file"
    etc = machine / "etc"
    assert "PasswordAuthentication no" in (etc / "ssh/sshd_config.d/10-tradecore.conf").read_text()
    assert "ENABLED=yes" in (etc / "ufw/ufw.conf").read_text()
    assert "allow tcp 22 0.0.0.0/0 any 192.168.1.0/24 in" in (etc / "ufw/user.rules").read_text()
    assert (machine / "srv/tradecore/postgresql/17/PG_VERSION").read_text() == "17\n"
    assert "timescaledb" in (etc / "postgresql/17/tradecore/conf.d/tradecore.conf").read_text()
    rules = (etc / "postgresql/17/tradecore/pg_hba.conf").read_text()
    assert not re.search(r"^[^#\n]*trust$", rules, re.M), "no login without a password or the system's user"
    env = machine / "opt/tradecore/shared/.env"
    assert env.stat().st_mode & 0o777 == 0o600
    assert re.search(r"^DB_PASSWORD=[0-9a-f]{48}$", env.read_text(), re.M)
