"""The deployment files: no container engine can run here, so they are checked against the schema, the code and the command line.

`compose-spec.json` is the Compose Specification's own JSON Schema (Apache-2.0, github.com/compose-spec/compose-spec), as of 2021.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from typer.testing import CliRunner

from handfast.client.cli.app import app
from handfast.contracts.loading import load_agents
from handfast.contracts.upstream import Upstream
from handfast.settings import Settings

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
    assert sorted(commands) == ["migrate", "worker"]
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
                assert (needed, how["condition"]) == ("migrate", "service_completed_successfully")
    assert COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2


def test_the_image_copies_what_is_there_and_runs_without_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "USER handfast" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    entrypoint = next(line for line in lines if line.startswith("ENTRYPOINT"))
    assert json.loads(entrypoint.removeprefix("ENTRYPOINT ")) == ["handfast"]
