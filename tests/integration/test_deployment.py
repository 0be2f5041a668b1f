"""The deployment files: no container engine can run here, so they are checked against the schema, the code and the command line.

`compose-spec.json` is the Compose Specification's own JSON Schema (Apache-2.0, github.com/compose-spec/compose-spec), as of 2021.
"""

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from handfast.client.cli.app import app
from handfast.contracts.loading import load_agents
from handfast.contracts.upstream import Upstream
from handfast.engine.versions import MIN_SERVER
from handfast.ledger import Ledger
from handfast.settings import Settings
from tests.conftest import Postgres, start_postgres

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "handfast:latest"}


def test_the_compose_file_fits_the_compose_schema() -> None:
    # The schema names its draft by an address that the library does not know; it is 2019-09.
    validator = jsonschema.Draft201909Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    broken = {**COMPOSE, "services": {"worker": {"image": 7}}}
    assert [error.message for error in validator.iter_errors(broken)] == ["7 is not of type 'string'"]


def test_every_command_in_it_is_one_of_the_command_line_and_its_agents_load() -> None:
    commands = {name: service["command"] for name, service in OURS.items() if "entrypoint" not in service}
    assert sorted(commands) == ["gateway", "migrate", "worker"]
    for command in commands.values():
        words = [word for word in command if ":" not in word]
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, shlex.join(command)
        for target in (word for word in command if ":" in word):
            assert load_agents(target)
    services = {name: service for name, service in OURS.items() if "entrypoint" in service}
    for name, service in services.items():
        assert service["entrypoint"] == ["python", "-m", "handfast.demo.support_desk.serve"]
        assert service["command"][0] == name


def test_every_setting_in_it_is_known() -> None:
    known = {f"HANDFAST_{name.upper()}" for name in Settings.model_fields} | {"ANTHROPIC_API_KEY"}
    for service in OURS.values():
        environment = service["environment"]
        assert {name for name in environment if not name.startswith("TEMPORAL_")} <= known
        upstreams = json.loads(environment["HANDFAST_UPSTREAMS"])
        for name, upstream in upstreams.items():
            assert Upstream.model_validate(upstream).base_url.startswith(f"http://{name}:")
            assert name in COMPOSE["services"]


def test_whatever_a_service_waits_for_has_a_health_check_or_an_end() -> None:
    for service in COMPOSE["services"].values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in COMPOSE["services"][needed]["healthcheck"]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert needed in {"migrate", "temporal-schema", "temporal-namespace"}
                assert COMPOSE["services"][needed]["restart"] == "on-failure"
    assert COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2


def test_temporal_is_new_enough_and_its_tools_are_of_its_version() -> None:
    images = {name: str(service["image"]) for name, service in COMPOSE["services"].items() if "image" in service}
    server = images["temporal"]
    assert server.startswith("temporalio/server:")
    version = server.partition(":")[2]
    assert tuple(map(int, version.split(".")[:2])) >= MIN_SERVER
    assert {images[name] for name in ("temporal-schema", "temporal-namespace")} == {f"temporalio/admin-tools:{version}"}


def test_every_file_that_is_mounted_is_there_and_its_scripts_can_be_read() -> None:
    mounted = [volume for service in COMPOSE["services"].values() for volume in service.get("volumes", ())]
    assert [
        path for path in (one.split(":")[0] for one in mounted) if path.startswith(".") and not (ROOT / path).exists()
    ] == []
    for script in (ROOT / "deploy").rglob("*.sh"):
        subprocess.run(["/bin/sh", "-n", str(script)], check=True)
    for name in ("temporal-schema", "temporal-namespace"):
        name_of_script = Path(COMPOSE["services"][name]["entrypoint"][1]).name
        needed = set(re.findall(r"\$([A-Z_]+)", (ROOT / "deploy/temporal" / name_of_script).read_text()))
        assert needed <= COMPOSE["services"][name]["environment"].keys()


def test_the_schema_of_both_databases_is_set_up_before_the_server_starts(tmp_path: Path) -> None:
    calls, tool = tmp_path / "calls", tmp_path / "temporal-sql-tool"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    tool.chmod(0o755)
    service = COMPOSE["services"]["temporal-schema"]
    environment = {**service["environment"], "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", str(ROOT / "deploy/temporal/schema.sh")], env=environment, check=True)
    to = "--plugin postgres12 --endpoint postgres --port 5432 --user temporal --database"
    schema = "--schema-dir /etc/temporal/schema/postgresql/v12"
    assert calls.read_text().splitlines() == [
        f"{to} temporal setup-schema --version 0.0",
        f"{to} temporal update-schema {schema}/temporal/versioned",
        f"{to} temporal_visibility setup-schema --version 0.0",
        f"{to} temporal_visibility update-schema {schema}/visibility/versioned",
    ]
    server = COMPOSE["services"]["temporal"]["environment"]
    assert (server["DBNAME"], server["VISIBILITY_DBNAME"]) == ("temporal", "temporal_visibility")


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = start_postgres(tmp_path / "postgres")
    yield server
    server.cleanup()


async def test_temporal_and_the_ledger_have_users_of_their_own(own_postgres: Postgres) -> None:
    own_postgres.psql((ROOT / "deploy/postgres/init.sql").read_text())

    def url(user: str, database: str) -> str:
        return own_postgres.get_uri(database=database).replace("postgres:@", f"{user}:{user}@")

    ledger = Ledger.connect(url("handfast", "handfast"))
    await ledger.migrate()
    await ledger.close()
    for user, database in (("handfast", "temporal"), ("handfast", "temporal_visibility"), ("temporal", "handfast")):
        stranger = Ledger.connect(url(user, database))
        with pytest.raises(Exception, match="permission denied for database"):
            await stranger.require_newest()
        await stranger.close()
    # What Temporal's schema of the visibility database needs.
    own_postgres.psql("\\c temporal_visibility temporal\nCREATE EXTENSION btree_gin;")
    addresses = [service["environment"].get("HANDFAST_LEDGER_URL") for service in OURS.values()]
    assert {*addresses} == {"postgresql://handfast:handfast@postgres:5432/handfast"}


def test_the_image_has_every_extra_that_the_documentation_names_for_workers() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    found = re.search(r'"\.\[([a-z,]+)\]"', dockerfile)
    assert found is not None
    installed = set(found[1].split(","))
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "src").rglob("*.py")]
    named = {
        extra
        for text in texts
        for found in re.findall(r"(?:handfast|\.)\[([a-z,]+)\]|extra `([a-z]+)`", text.read_text())
        for extra in ",".join(found).split(",")
        if extra
    }
    assert named <= declared
    # The dev server is for one machine; Presidio has 300 MB and its documentation says to install it.
    assert declared - installed == {"embedded", "presidio"}
    assert named - installed <= {"embedded", "presidio"}


def test_the_image_copies_what_is_there_and_runs_without_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "USER handfast" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    entrypoint = next(line for line in lines if line.startswith("ENTRYPOINT"))
    assert json.loads(entrypoint.removeprefix("ENTRYPOINT ")) == ["handfast"]
