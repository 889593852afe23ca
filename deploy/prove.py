"""`make prove`: run the command of every claim in docs/proofs.yaml and write what was seen into docs/PROOFS.md.

    deploy/run python deploy/prove.py                 # all of them (an hour and more)
    deploy/run python deploy/prove.py --only parity   # those whose id starts with this
    deploy/run python deploy/prove.py --list

A row that is not run keeps the figure, machine and date it had. A claim whose command fails, or prints no figure where
one is asked for, stands there as open.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

HOME = Path(__file__).resolve().parents[1]
CLAIMS = HOME / "docs" / "proofs.yaml"
PAGE = HOME / "docs" / "PROOFS.md"
CLOSING = r"\d+ passed[^\n]*?(?= in )"
HEAD = """# Proofs

Every claim of the README and every line of an issue's "It must show", with the command that shows it and the figure
that was last seen. Made by `make prove` from [proofs.yaml](proofs.yaml); `deploy/run python deploy/prove.py --only ID`
runs one. **open** means: not shown, or not seen on this machine yet.

"""


def machine() -> str:
    """Return this machine in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores {platform.machine()}, {memory:.0f} GB, Python {platform.python_version()}"


def seen_before() -> dict[str, tuple[str, str, str]]:
    """Return (figure, machine, date) by id from the page as it is."""
    rows = {}
    if PAGE.is_file():
        for line in PAGE.read_text(encoding="utf-8").splitlines():
            cells = [c.strip() for c in line.strip("|").split(" | ")]
            if len(cells) == 6 and cells[0].startswith("`"):
                rows[cells[0].strip("`")] = (cells[3], cells[4], cells[5])
    return rows


def run(claim: dict[str, str]) -> tuple[bool, str]:
    """Run one claim's command; return whether it holds and the figure."""
    print(f"--- {claim['id']}: {claim['command']}", flush=True)
    started = time.monotonic()
    done = subprocess.run(claim["command"], shell=True, cwd=HOME, text=True, capture_output=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode != 0:
        print("\n".join(output.splitlines()[-15:]))
        return False, f"**open**: exit {done.returncode}"
    if re.search(r"\d+ skipped", output) and not re.search(r"\d+ passed", output):
        return False, "**open**: every test was skipped"
    found = re.findall(r"^[.s]*proof: (.*)$", output, re.MULTILINE)  # pytest's dots may stand before it
    if claim.get("figure"):
        found += re.findall(claim["figure"], output)
    if not found and claim.get("figure"):
        return False, "**open**: no figure in the output"
    figure = "; ".join(dict.fromkeys(found)) or next(iter(re.findall(CLOSING, output)), "holds")
    print(f"    {figure} ({time.monotonic() - started:.0f} s)", flush=True)
    return True, figure.replace("|", "/")


def write(claims: list[dict[str, str]], rows: dict[str, tuple[str, str, str]]) -> None:
    """Write the page: one table an issue."""
    text = HEAD
    for issue in dict.fromkeys(c["issue"] for c in claims):
        text += f"## {issue}\n\n| id | claim | command | figure last seen | machine | date |\n"
        text += "|---|---|---|---|---|---|\n"
        for c in [c for c in claims if c["issue"] == issue]:
            figure, where, day = rows.get(c["id"], ("**open**", "", ""))
            command = c["command"].replace("|", "\\|")
            text += f"| `{c['id']}` | {c['claim']} | `{command}` | {figure} | {where} | {day} |\n"
        text += "\n"
    PAGE.write_text(text, encoding="utf-8")


def main() -> int:
    """Run what was asked for; exit 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run the claims whose id starts with this")
    parser.add_argument("--list", action="store_true", help="list the claims and stop")
    arguments = parser.parse_args()
    claims = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    rows, failed = seen_before(), []
    for claim in claims:
        if arguments.list:
            print(f"{claim['id']:<22} {claim['claim']}")
        elif claim["id"].startswith(arguments.only) and claim.get("command") != "none yet":
            holds, figure = run(claim)
            rows[claim["id"]] = (figure, machine(), f"{datetime.now(UTC):%Y-%m-%d}")
            failed += [] if holds else [claim["id"]]
            write(claims, rows)
    if not arguments.list:
        write(claims, rows)
        print(f"{len(failed)} open: {', '.join(failed)}" if failed else "all that was run holds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
