"""What deploy/ gives a shell: the environment, its order of precedence, and one line where it cannot."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import environment as project
from native_stack import REPOSITORY, clean_environment
from tradecore.errors import ConfigError
from tradecore.storage import embedded

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "ksh") if shutil.which(shell)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder with what the environment is made from, its name with a space."""
    folder = tmp_path / "my project"
    for part in ("deploy", "include"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder.resolve()


@pytest.fixture
def venv(root: Path) -> Path:
    """An environment whose python is the one that runs the tests, with a hooked activate."""
    folder = root / ".venv"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def test_names_folders_database_and_secrets(root: Path) -> None:
    made = project.environment(root, {})
    assert made["AIRFLOW_HOME"] == str(root / ".local" / "airflow")
    assert made["PYTHONPATH"].split(os.pathsep)[0] == str(root / "include")
    assert made["DATABASE_URL"] == embedded.describe(root)
    assert made["AIRFLOW_CONN_TRADECORE_DB"].startswith("postgres://")
    assert made["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql+psycopg2://")
    assert len(made["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert made["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert embedded.status(root) is None, "naming the database must not start it"


def test_secrets_are_made_once_and_readable_by_us_alone(root: Path) -> None:
    first = project.environment(root, {})
    assert project.environment(root, {}) == first
    kept = root / ".local" / "airflow" / "secrets.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert set(json.loads(kept.read_text())) == set(project.SECRETS)


def test_process_environment_wins_over_dotenv_over_what_is_derived(root: Path) -> None:
    (root / ".env").write_text("AIRFLOW__CORE__PARALLELISM=2\nLOG_LEVEL=DEBUG\nSMTP_HOST=\n")
    made = project.environment(root, {"LOG_LEVEL": "ERROR"})
    assert made["AIRFLOW__CORE__PARALLELISM"] == "2"
    assert "LOG_LEVEL" not in made, "it is right already"
    assert "SMTP_HOST" not in made, "an empty value is none"


@pytest.mark.parametrize(
    "settings, url",
    [
        ({"DATABASE_URL": "postgres://u:p@h:1/d"}, "postgresql://u:p@h:1/d"),
        ({"DATABASE_URL": "postgresql+psycopg://u:p@h/d"}, "postgresql://u:p@h/d"),
        ({"DB_HOST": "h", "DB_USER": "u", "DB_PASSWORD": "p@/:", "DB_NAME": "d"}, "postgresql://u:p%40%2F%3A@h:5432/d"),
        ({"DB_HOST": "h", "DATABASE_URL": "postgresql://other/d"}, "postgresql://other/d"),
        ({"DB_PASSWORD": "unused", "DB_PORT": "5432"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_database_url_and_its_parts(settings: dict[str, str], url: str | None) -> None:
    assert project.database_url(settings) == url


def test_given_database_replaces_the_embedded_one_everywhere(root: Path) -> None:
    (root / ".env").write_text("DATABASE_URL=postgres://u:p@h:1/d\n")
    made = project.environment(root, {})
    assert not project.uses_embedded(root, {})
    assert made["DATABASE_URL"] == "postgresql://u:p@h:1/d"
    assert made["AIRFLOW_CONN_TRADECORE_DB"] == "postgres://u:p@h:1/d"
    assert made["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql+psycopg2://u:p@h:1/d"


def test_second_call_renews_its_own_values_and_keeps_a_persons(root: Path) -> None:
    shell = project.environment(root, {})
    assert project.environment(root, shell) == project.environment(root, {})
    (root / ".env").write_text("LOG_LEVEL=DEBUG\n")
    shell |= project.environment(root, shell)
    (root / ".env").write_text("LOG_LEVEL=ERROR\n")
    assert project.environment(root, shell)["LOG_LEVEL"] == "ERROR"
    shell["DATABASE_URL"] = "postgresql://u:p@mine/d"
    again = shell | project.environment(root, shell)
    assert again["DATABASE_URL"] == "postgresql://u:p@mine/d"
    assert again["AIRFLOW_CONN_TRADECORE_DB"] == "postgres://u:p@mine/d"


def test_placeholder_and_foreign_database_are_refused_with_the_next_step(root: Path) -> None:
    (root / ".env").write_text("DB_PASSWORD=CHANGE_ME\n")
    with pytest.raises(ConfigError, match=r"CHANGE_ME for DB_PASSWORD.*make env"):
        project.environment(root, {})
    with pytest.raises(ConfigError, match=r"'mysql'.*postgresql://user"):
        project.database_url({"DATABASE_URL": "mysql://u:p@h/d"})


def test_the_configuration_knows_every_variable_that_is_set_for_it(root: Path) -> None:
    """A variable of ours that looks like a setting would be reported as a misspelled one."""
    from tradecore.settings import load

    assert load(project.environment(root, {})).warnings == ()


@pytest.mark.parametrize("shell", SHELLS)
def test_activate_sets_and_deactivate_unsets(root: Path, venv: Path, shell: str) -> None:
    hook = (REPOSITORY / "deploy" / "bootstrap.sh").read_text().split("hook_activate() {")[1].split("\n}\n")[0]
    activate = venv / "bin" / "activate"
    activate.write_text(f'deactivate () {{\n    :\n}}\nVIRTUAL_ENV="{venv}"\n')
    subprocess.run(
        ["sh", "-ec", f"hook_it() {{ {hook}\n}}; hook_it; hook_it"],
        env=clean_environment(venv=str(venv)),
        check=True,
    )
    script = (
        f'. "{activate}"; echo "$AIRFLOW_HOME"; echo "$PYTHONPATH"; deactivate;'
        ' echo "[${AIRFLOW_HOME:-}${PYTHONPATH:-}${DATABASE_URL:-}${NATIVE_ENVIRONMENT:-}]"'
    )
    done = subprocess.run([shell, "-c", script], env=clean_environment(), capture_output=True, text=True, check=True)
    home, path, after = done.stdout.splitlines()
    assert home == str(root / ".local" / "airflow")
    assert str(root / "include") in path
    assert after == "[]"
    assert activate.read_text().count("deploy/env.sh") == 1


def test_run_says_in_one_line_why_it_cannot(root: Path, venv: Path) -> None:
    (root / ".env").write_text("DATABASE_URL=mysql://u:p@h/d\n")
    done = subprocess.run(
        [str(root / "deploy" / "run"), "echo", "reached"],
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "reached" not in done.stdout
    assert done.stderr.startswith("error: DATABASE_URL starts with 'mysql'")


def tools_without_python(folder: Path) -> Path:
    """A PATH with the usual tools, but neither python nor uv."""
    folder.mkdir()
    for name in [
        "sh",
        "cat",
        "cksum",
        "dirname",
        "grep",
        "mkdir",
        "rm",
        "tail",
        "awk",
        "mv",
        "flock",
        "sed",
        "env",
    ]:
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return folder


@pytest.mark.parametrize("version", ["(3, 9)", "(3, 14)", None])
def test_bootstrap_names_the_pythons_that_fit_in_one_line(root: Path, tmp_path: Path, version: str | None) -> None:
    tools = tools_without_python(tmp_path / "bin")
    if version:
        fake = tools / "python3"
        fake.write_text(
            f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}" && exit 0\n'
            f'exec "{sys.executable}" -c "import sys; sys.version_info = {version}; $(echo "$2")"\n'
        )
        fake.chmod(0o755)
    (root / "requirements.txt").write_text("")
    done = subprocess.run(
        [str(root / "deploy" / "bootstrap.sh")], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: Python 3.11, 3.12 or 3.13 is needed and not found")
    assert (version or "no python3") in done.stderr
    assert "apt install" in done.stderr


def tiny_wheel(folder: Path) -> tuple[Path, str]:
    """Write a wheel with one empty module; return it and its sha256."""
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    files = {
        "tiny.py": "",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, "tiny-1.0.dist-info/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (files | {"tiny-1.0.dist-info/RECORD": record}).items():
            archive.writestr(name, text)
    return wheel, hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_bootstrap_installs_once_and_again_when_the_list_changes_and_only_what_has_a_right_hash(root: Path) -> None:
    (root / "requirements.txt").write_text("# nothing\n")
    (root / "requirements-dev.txt").write_text("# nothing\n")
    environment = clean_environment(PATH="/usr/local/bin:/usr/bin:/bin", HOME="")

    def bootstrap(*arguments: str) -> tuple[str, float]:
        before = os.times()  # of processor time: what else the machine does is no cost of the script
        done = subprocess.run(
            [str(root / "deploy" / "bootstrap.sh"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        after = os.times()
        used_s = after.children_user + after.children_system - before.children_user - before.children_system
        return done.stdout, used_s

    assert "Making .venv" in bootstrap()[0]
    again, used_s = bootstrap()
    assert again == ""
    assert used_s < 1
    assert "Installing" in bootstrap("dev")[0]
    assert bootstrap()[0] == bootstrap("dev")[0] == "", "dev covers the base"
    (root / "requirements.txt").write_text("# something else\n")
    said = bootstrap()[0]
    assert "Installing" in said
    assert "Making" not in said
    wheel, digest = tiny_wheel(root.parent)
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root.parent), "PIP_CONFIG_FILE": os.devnull}
    environment |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(root.parent)}
    for hashes, installed in (("", False), (f" --hash=sha256:{'0' * 64}", False), (f" --hash=sha256:{digest}", True)):
        (root / "requirements.txt").write_text(f"tiny==1.0{hashes}\n")
        done = subprocess.run([str(root / "deploy" / "bootstrap.sh")], env=environment, capture_output=True, text=True)
        assert (done.returncode == 0) == installed, done.stdout + done.stderr
        assert bool(list(root.glob(".venv/lib/*/site-packages/tiny.py"))) == installed, f"{wheel.name}{hashes}"
    moved = root.rename(root.with_name("moved project"))
    root = moved
    done = subprocess.run([str(moved / "deploy" / "bootstrap.sh")], env=environment, capture_output=True, text=True)
    assert "Making .venv" in done.stdout, "scripts of a moved environment point nowhere"
