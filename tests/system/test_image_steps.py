"""The image's build steps, run here without Docker.

Each step of the Dockerfile is carried out in order under a temporary directory that stands for the image's
root: the base image's virtual environment is made, COPY copies what the build context would hold, and RUN
runs the same words in the same shell, with the image's directories mapped below the temporary one. Then the
containers' own commands run in it, with the environment that Compose would give them, on a TimescaleDB
server. What stays unshown without Docker: the base image itself, users and volumes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

import compose_tool
import private_apt
import timescaledb_server

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
ENTRYPOINT = (ROOT / "deploy" / "docker" / "entrypoint.sh").read_text()
# The base image's directories: project and virtual environment.
PROJECT, VENV = "/opt/airflow", "/home/airflow/.local"
# The shell that the base image sets for RUN.
SHELL = ["/bin/bash", "-o", "pipefail", "-o", "errexit", "-o", "nounset", "-o", "nolog", "-c"]
TIMEOUT_S = 1200

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * TIMEOUT_S)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One instruction of a Dockerfile with its continuation lines joined."""

    name: str
    words: str


def steps(text: str) -> list[Step]:
    """Split a Dockerfile into its instructions, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()
    return [Step(name=line.split()[0], words=line.split(maxsplit=1)[1].strip()) for line in joined]


@dataclass(slots=True, kw_only=True)
class Image:
    """What the steps have made so far: files below `root`, and the environment."""

    root: Path
    environment: dict[str, str]

    def place(self, text: str) -> str:
        """Map the image's absolute paths in `text` to places below our root."""
        return re.sub(rf"(?<![\w/])({re.escape(PROJECT)}|{re.escape(VENV)})(?=/|\b)", rf"{self.root}\1", text)

    def run(self, words: str) -> subprocess.CompletedProcess[str]:
        return self.execute([*SHELL, self.place(words)])

    def execute(self, command: list[str], **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.place(word) for word in command],
            cwd=self.place(PROJECT),
            env={**self.environment, **{key: self.place(value) for key, value in extra.items()}},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def copy(self, words: str) -> None:
        """Copy what the build context holds: the working tree without what git leaves out."""
        *sources, target = shlex.split(words)
        for source in sources:
            command = [
                "git",
                "-C",
                str(ROOT),
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                source,
            ]
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            listed = [name for name in listed if (ROOT / name).exists()]
            assert listed, f"COPY {source}: nothing of that name is in the repository"
            for name in listed:
                within = Path(name).relative_to(source) if source.endswith("/") else Path(Path(name).name)
                into = Path(self.place(target))
                into = into / within if target.endswith("/") else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, into)


def python_3_12() -> str:
    """The base image's Python if this machine has it, else the one that runs the tests."""
    candidates = [
        shutil.which("python3.12"),
        *map(str, Path.home().glob(".pyenv/versions/3.12.*/bin/python")),
    ]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "--version"], capture_output=True).returncode == 0:
            return candidate
    return sys.executable


def base_image(root: Path) -> Image:
    """Make what `FROM apache/airflow:slim-...` provides that the steps use: a venv with pip and uv."""
    for folder in (PROJECT, f"{PROJECT}/dags", f"{PROJECT}/logs", "/home/airflow", "/scratch"):
        Path(f"{root}{folder}").mkdir(parents=True, exist_ok=True)
    venv = f"{root}{VENV}"
    subprocess.run([python_3_12(), "-m", "venv", venv], check=True)
    subprocess.run([f"{venv}/bin/python", "-m", "pip", "install", "-q", "uv"], check=True, timeout=TIMEOUT_S)
    keep = ("SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return Image(
        root=root,
        environment={
            **{key: value for key, value in os.environ.items() if key in keep or key.startswith(("PIP_", "UV_"))},
            "PATH": f"{venv}/bin:{os.defpath}",
            "HOME": f"{root}/home/airflow",
            "TMPDIR": f"{root}/scratch",
            "LC_ALL": "C.UTF-8",
            "VIRTUAL_ENV": venv,
            "AIRFLOW_HOME": f"{root}{PROJECT}",
        },
    )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image, built step by step."""
    root = tmp_path_factory.mktemp("image")
    built = base_image(root)
    for step in steps(DOCKERFILE.read_text()):
        if step.name == "COPY":
            built.copy(step.words)
        elif step.name == "ENV":
            for pair in shlex.split(step.words):
                key, _, value = pair.partition("=")
                built.environment[key] = built.place(value)
        elif step.name == "RUN":
            done = built.run(step.words)
            assert done.returncode == 0, f"RUN {step.words}\n{done.stdout}{done.stderr}"
        else:
            assert step.name in ("FROM", "USER", "ENTRYPOINT"), f"this test does not know {step.name}"
    yield built
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that Compose gives to our containers, on a TimescaleDB server of this machine."""
    try:
        server = urlsplit(timescaledb_server.ensure(ROOT))
        compose = compose_tool.ensure(ROOT)
    except private_apt.Unavailable as error:
        pytest.skip(f"the containers' commands are NOT run: {error}")
    name = "image_steps"
    with psycopg.connect(server.geturl(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    project = tmp_path_factory.mktemp("compose")
    shutil.copy(ROOT / "docker-compose.yaml", project)
    shutil.copytree(ROOT / "deploy", project / "deploy")
    secrets = {
        "DB_NAME": name,
        "DB_USER": server.username,
        "DB_PASSWORD": server.password,
        "AIRFLOW_ADMIN_PASSWORD": "image-steps-admin",
        "AIRFLOW_VIEWER_PASSWORD": "image-steps-viewer",
        "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
        "AIRFLOW__API__SECRET_KEY": "s" * 32,
        "AIRFLOW__CORE__FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    }
    project.joinpath(".env").write_text("".join(f"{key}='{value}'\n" for key, value in secrets.items()))
    done = subprocess.run(
        [str(compose), "config", "--format", "json"], cwd=project, capture_output=True, text=True, check=True
    )
    environment: dict[str, str] = json.loads(done.stdout)["services"]["migrate"]["environment"]
    # The containers' network: their `db` is a port of 127.0.0.1 here.
    address = {
        "PGHOST": "127.0.0.1",
        "DB_HOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "DB_PORT": str(server.port),
    }
    moved = {key: value.replace("@db:5432/", f"@127.0.0.1:{server.port}/") for key, value in environment.items()}
    yield {**moved, **address}
    with psycopg.connect(server.geturl(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_every_step_succeeds_and_leaves_exactly_the_locked_packages(image: Image) -> None:
    frozen = image.execute(["uv", "pip", "freeze"]).stdout.splitlines()
    locked = image.execute(
        ["uv", "pip", "compile", "--no-deps", "--no-header", "--no-annotate", f"{PROJECT}/requirements.txt"]
    ).stdout.splitlines()
    # What the base image brings to install with.
    tools = {line for line in frozen if line.split("==")[0] in ("pip", "setuptools", "uv")}
    assert len(locked) > 150
    assert set(frozen) - tools == set(locked)


def test_image_holds_the_code_and_none_of_its_secrets(image: Image) -> None:
    project = Path(image.place(PROJECT))
    assert (project / "include" / "tradecore" / "cli" / "shell.py").is_file()
    assert (project / "deploy" / "airflow" / "airflow.env").is_file()
    assert not list(project.rglob(".env*"))
    assert not (project / "tests").exists()


def test_entrypoint_names_the_kernel_cache_after_its_content(image: Image) -> None:
    assert ENTRYPOINT.rstrip().endswith('exec /entrypoint "$@"'), "Airflow's own entrypoint does the rest"
    done = image.execute(["/bin/sh", "-c", ENTRYPOINT.replace("exec /entrypoint", "exec"), "entrypoint", "env"])
    values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert re.fullmatch(r".*/opt/airflow/\.local/numba-cache/[0-9a-f]{16}", values["NUMBA_CACHE_DIR"])


def test_migration_runs_as_compose_starts_it_and_again(image: Image, container: dict[str, str]) -> None:
    command = ["python", f"{PROJECT}/deploy/docker/prepare.py"]
    checked = image.execute([*command, "check"], **container)
    assert checked.returncode == 0, checked.stderr
    for _ in range(2):
        done = image.execute([*command, "migrate"], **container)
        assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(
        host=container["PGHOST"],
        port=container["PGPORT"],
        user=container["PGUSER"],
        password=container["PGPASSWORD"],
        dbname=container["PGDATABASE"],
    ) as connection:
        schemas = dict(
            connection.execute(
                "SELECT schemaname, count(*) FROM pg_tables WHERE schemaname IN ('public', 'tradecore') GROUP BY 1"
            ).fetchall()
        )
        extension = connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    assert schemas["public"] > 40, "Airflow's tables"
    assert schemas["tradecore"] > 10, "ours"
    assert extension == (1,)
    login = Path(image.place(container["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]))
    assert json.loads(login.read_text()) == {"admin": "image-steps-admin", "viewer": "image-steps-viewer"}


def test_dags_of_the_image_parse_and_the_plugin_loads(image: Image, container: dict[str, str]) -> None:
    """After the migration, which the test above runs."""
    parsed = image.execute(["airflow", "dags", "reserialize"], **container)
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    errors = image.execute(["airflow", "dags", "list-import-errors", "--output", "json"], **container)
    assert errors.returncode == 0, errors.stdout + errors.stderr
    dags = image.execute(["airflow", "dags", "list", "--output", "json"], **container)
    assert "trading_day" in dags.stdout, dags.stdout + dags.stderr
    plugins = image.execute(["airflow", "plugins", "--output", "json"], **container)
    assert "tradecore" in plugins.stdout, plugins.stdout + plugins.stderr


def test_health_check_tells_a_living_component_from_a_silent_one(image: Image, container: dict[str, str]) -> None:
    """After the migration. The rows are those that a scheduler writes: its own are tested with the stack."""
    command = ["python", f"{PROJECT}/deploy/docker/health.py"]
    with psycopg.connect(
        host=container["PGHOST"],
        port=container["PGPORT"],
        user=container["PGUSER"],
        password=container["PGPASSWORD"],
        dbname=container["PGDATABASE"],
        autocommit=True,
    ) as connection:
        assert image.execute([*command, "SchedulerJob"], **container).returncode == 1
        connection.execute(
            "INSERT INTO job (state, job_type, latest_heartbeat, hostname)"
            " VALUES ('running', 'SchedulerJob', now(), 'here')"
        )
        assert image.execute([*command, "SchedulerJob"], **container).returncode == 0
        assert image.execute([*command, "DagProcessorJob"], **container).returncode == 1
        connection.execute("UPDATE job SET latest_heartbeat = now() - INTERVAL '31 s'")
        assert image.execute([*command, "SchedulerJob"], **container).returncode == 1


def test_a_session_runs_in_the_image(image: Image, container: dict[str, str]) -> None:
    """After the migration: real sample data in the image, through Airflow, as far as the report on the volume."""
    session = "2005-02-25"
    opened = image.execute(["python", "-m", "tradecore", "init", "--before", session], **container)
    assert opened.returncode == 0, opened.stdout + opened.stderr
    entered = ["/bin/sh", "-c", ENTRYPOINT.replace("exec /entrypoint", "exec"), "entrypoint"]
    done = image.execute([*entered, "airflow", "dags", "test", "trading_day", session], **container)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = image.execute(["python", "-m", "tradecore", "summary", session, "--json"], **container)
    assert summary.returncode == 0, summary.stdout + summary.stderr
    state = Path(image.place(PROJECT)) / ".local"
    assert list((state / "reports").rglob("*.html"))
    assert list((state / "numba-cache").rglob("*.nbi")), "kernels are kept on the volume"
