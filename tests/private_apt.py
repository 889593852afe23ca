"""Debian packages unpacked into a private directory: no root, no change to the host.

`apt-get` runs with its own state, cache and sources, so neither the host's package lists nor its installed
packages are touched. The mirror and proxy are those of the machine's own apt settings; the suite is always
`trixie`, whose packages bring their own libc along and so run on Debian 12 too. The signature check is apt's
own, against the keyring that the machine has installed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Above every real version, so that apt takes a stub as satisfying any dependency.
STUB_VERSION = "99:0"


class Unavailable(Exception):
    """What was asked for cannot be had on this machine; the message is one line and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One apt source: where packages come from and which suites it lists."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


def _os_release() -> dict[str, str]:
    path = Path("/etc/os-release")
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {key: value.strip('"') for key, _, value in pairs}


def parse_sources(text: str, *, deb822: bool) -> list[Source]:
    """Read the binary-package entries of one apt sources file, in one of its two formats."""
    if not deb822:
        found = []
        for line in text.splitlines():
            line = line.split("#")[0].strip()
            if not line.startswith("deb "):
                continue
            rest = line[4:].strip()
            if rest.startswith("["):
                rest = rest.partition("]")[2].strip()
            uri, suite, *components = rest.split()
            found.append(Source(uri=uri, suites=(suite,), components=tuple(components)))
        return found
    found = []
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
            for uri in fields.get("uris", "").split():
                found.append(
                    Source(
                        uri=uri,
                        suites=tuple(fields.get("suites", "").split()),
                        components=tuple(fields.get("components", "").split()),
                    )
                )
    return found


def debian_mirror(etc: Path = Path("/etc/apt"), release: dict[str, str] | None = None) -> str:
    """Find the address of the Debian mirror in the machine's apt sources.

    Raises
    ------
    Unavailable
        Not Debian 12 or 13, or no source for Debian's main archive is configured.
    """
    release = _os_release() if release is None else release
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or codename not in ("bookworm", "trixie"):
        name = release.get("PRETTY_NAME", "this system")
        raise Unavailable(f"needs Debian 12 or 13 (or Raspberry Pi OS of that age), not {name}")
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    sources = []
    for path in files:
        if path.is_file() and path.suffix in (".list", ".sources"):
            sources += parse_sources(path.read_text(), deb822=path.suffix == ".sources")
    mirrors = [s for s in sources if codename in s.suites and "main" in s.components]
    # Vendors (Raspberry Pi's archive, for one) reuse the codename; only Debian has `-updates` beside it.
    with_updates = {s.uri for s in sources if f"{codename}-updates" in s.suites}
    mirrors.sort(key=lambda s: s.uri not in with_updates)
    if not mirrors:
        raise Unavailable(f"no apt source on this machine lists Debian's {codename} main; see {etc}")
    return mirrors[0].uri


def _acquire_settings() -> list[str]:
    """Proxy and time-out settings of the host's apt; its hooks and scripts are left out on purpose."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return [
        line
        for line in dump.splitlines()
        if line.startswith("Acquire::")
        and "IndexTargets" not in line
        and "Changelogs" not in line
        and not line.endswith('"";')
    ]


def _prepare(work: Path, stubs: Sequence[str], architecture: str) -> Path:
    """Write a private apt directory under `work` and return its configuration file."""
    for folder in ("etc/empty", "state/lists/partial", "cache/archives/partial", "log"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "status").write_text(
        "".join(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\n"
            f"Multi-Arch: foreign\nVersion: {STUB_VERSION}\nMaintainer: none\nDescription: stub\n\n"
            for name in stubs
        )
    )
    sources = work / "etc" / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {debian_mirror()} {SUITE} main\n")
    settings = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Log": work / "log",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": work / "etc" / "empty",
        "Dir::Etc::preferences": work / "etc" / "none",
        "Dir::Etc::preferencesparts": work / "etc" / "empty",
        "Dir::Etc::main": work / "etc" / "none",
        "Dir::Etc::parts": work / "etc" / "empty",
        "APT::Install-Recommends": "false",
        # As root, apt drops to a user that may not reach a directory under somebody's home.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    config = work / "apt.conf"
    lines = [*_acquire_settings(), *(f'{key} "{value}";' for key, value in settings.items())]
    config.write_text("\n".join(lines) + "\n")
    return config


def _apt(config: Path, *arguments: str) -> None:
    environment = {
        **os.environ,
        "APT_CONFIG": str(config),
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    done = subprocess.run(
        ["apt-get", "-q", "-y", *arguments], env=environment, capture_output=True, text=True, timeout=600
    )
    if done.returncode != 0:
        errors = [line[2:].strip() for line in done.stderr.splitlines() if line.startswith("E:")]
        raise Unavailable(f"apt-get {arguments[0]} failed: {errors[0] if errors else done.stderr.strip()}")


def download(work: Path, packages: Sequence[str], *, stubs: Sequence[str] = ()) -> list[Path]:
    """Download packages and what they need, and return the paths of the `.deb` files.

    Parameters
    ----------
    work : a directory of our own, kept or deleted by the caller.
    packages : names in Debian's suite `trixie`.
    stubs : dependencies to leave out.

    Raises
    ------
    Unavailable
        apt, dpkg, the keyring, the mirror or a package is missing.
    """
    for tool in ("apt-get", "apt-config", "dpkg", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"needs {tool}, so a Debian system")
    if not KEYRING.exists():
        raise Unavailable("needs the package debian-archive-keyring to check signatures")
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    config = _prepare(work.resolve(), stubs, architecture)
    _apt(config, "update")
    _apt(config, "install", "--download-only", *packages)
    return sorted((work / "cache" / "archives").glob("*.deb"))


def unpack(debs: Sequence[Path], prefix: Path) -> None:
    """Unpack packages under `prefix`, running none of their scripts."""
    prefix.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", str(deb), str(prefix)], check=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock on `folder`, so that two test processes do not build the same thing at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
