"""What `deploy/` and the Dockerfile name is what the program has, and their times fit those of the server."""

from __future__ import annotations

import json
import re
import shlex
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from immunos_mcp import gateway_messages, options
from immunos_mcp.cli import program
from immunos_mcp.database_address import DatabaseAddress
from immunos_mcp.http import application, guards, pages, serving
from immunos_mcp.http import options as http_options
from immunos_mcp.http.metrics import Metrics

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
INSTANCE = "4781"


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def environment_file(name: str) -> dict[str, str]:
    lines = (line for line in text_of(name).splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def service(name: str) -> Any:
    return yaml.safe_load(text_of("compose.yaml"))["services"][name]


def image(stage: str) -> str:
    """The lines of a stage of the Dockerfile."""
    dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    (found,) = re.findall(
        rf"^FROM \S+ AS {stage}$(.*?)(?=^FROM|\Z)", dockerfile, re.MULTILINE | re.DOTALL
    )
    return found


def set_by_image(stage: str) -> dict[str, str]:
    return dict(re.findall(r"\b(IMMUNOS_\w+)=(\S+)", image(stage)))


def seconds(name: str, pattern: str) -> float:
    (found,) = re.findall(pattern + r"\s*(\d+)s\b", text_of(name))
    return float(found)


@pytest.mark.parametrize("replica", ["server-1", "server-2"])
def test_a_replica_in_a_container_is_told_all_it_needs(replica: str) -> None:
    (command,) = re.findall(r"^CMD (.*)$", image("team"), re.MULTILINE)
    given = program.parse(json.loads(command))
    shown = service(replica)["environment"]
    named = environment_file(".env.example")["HOST_NAME"]
    hosts = re.sub(r"\$\{HOST_NAME:[^}]*\}", named, shown["IMMUNOS_ALLOWED_HOSTS"])
    environment = {**set_by_image("team"), **shown, "IMMUNOS_ALLOWED_HOSTS": hosts}
    chosen = http_options.read(environment, vars(given))
    assert chosen.hosts == {"budget.example.com", "server-1", "server-2"}
    assert (chosen.is_behind_proxy, chosen.needs_tokens) == (True, True)
    assert isinstance(options.read(environment).database, DatabaseAddress)
    proxied = service("proxy")["environment"]["SERVERS"].split()
    assert f"{replica}:{chosen.address.port}" in proxied


def test_a_replica_as_a_unit_is_told_all_it_needs() -> None:
    unit = ConfigParser(interpolation=None, strict=False, comment_prefixes="#")
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]  # as its documentation says
    unit.read_string(text_of("immunos-mcp@.service"))
    _, *arguments = shlex.split(unit["Service"]["ExecStart"].replace("%i", INSTANCE))
    environment = environment_file("server.env.example")
    chosen = http_options.read(environment, vars(program.parse(arguments)))
    assert chosen.address == options.Address("127.0.0.1", int(INSTANCE))
    assert chosen.is_behind_proxy
    assert f"server {chosen.address.host}:{INSTANCE} " in text_of("nginx.conf")
    assert isinstance(options.read(environment).database, DatabaseAddress)


def test_the_tables_are_made_by_their_owner_for_the_role_that_serves() -> None:
    migrate = service("migrate")
    given = program.parse(migrate["command"])
    owner, server = (
        options.read(service(name)["environment"]).database for name in ("migrate", "server-1")
    )
    owner_role, server_role = re.findall(r"CREATE ROLE (\w+)", text_of("create-roles.sh"))
    assert isinstance(owner, DatabaseAddress)
    assert isinstance(server, DatabaseAddress)
    assert f"//{owner_role}@" in owner.text
    assert f"//{server_role}@" in server.text
    assert given.grant_to == server_role
    for replica in ("server-1", "server-2"):
        assert service(replica)["depends_on"]["migrate"]["condition"] == (
            "service_completed_successfully"
        )


def test_every_file_and_variable_that_is_named_is_there() -> None:
    known = {
        row.variable
        for row in (
            *options.COMMAND_OPTIONS, *options.SERVING_OPTIONS, *http_options.HTTP_OPTIONS,
        )
    }  # fmt: skip
    for file in (*DEPLOY.iterdir(), PROJECT / "Dockerfile"):
        assert set(re.findall(r"\bIMMUNOS_\w+", file.read_text(encoding="utf-8"))) <= known, file
    compose = text_of("compose.yaml")
    for named in re.findall(r"- \./(\S+?):", compose):
        assert (DEPLOY / named).is_file()
    variables = set(re.findall(r"\$\{(\w+)", compose))
    assert variables == set(environment_file(".env.example"))
    assert service("server-1")["build"]["target"] == "team"
    for path in re.findall(r"health_uri (\S+)", text_of("Caddyfile")):
        assert path == application.READINESS
    assert f"4780{application.HEALTH}" in image("team")


def test_proxies_and_services_wait_as_long_as_the_server_does() -> None:
    assert seconds("Caddyfile", r"\bkeepalive") < serving.IDLE_SECONDS
    assert seconds("nginx.conf", r"\bkeepalive_timeout") < serving.IDLE_SECONDS
    assert seconds("Caddyfile", r"\bread_timeout") > pages.PING_SECONDS
    assert seconds("nginx.conf", r"\bproxy_read_timeout") > pages.PING_SECONDS
    assert seconds("compose.yaml", r"&server\n(?:.*\n)*?  stop_grace_period:") > serving.END_SECONDS
    assert int(re.findall(r"TimeoutStopSec=(\d+)", text_of("immunos-mcp@.service"))[0]) > (
        serving.END_SECONDS
    )
    (buffered,) = re.findall(r"request_buffers (\d+)KiB", text_of("Caddyfile"))
    assert int(buffered) * 1024 == guards.LARGEST_BODY


def test_a_proxy_lets_pass_what_developers_machines_push() -> None:
    (largest,) = re.findall(r"client_max_body_size (\d+)m;", text_of("nginx.conf"))
    assert int(largest) * 2**20 == gateway_messages.LARGEST_REQUEST
    assert "max_size" not in text_of("Caddyfile")


def test_every_alarm_is_about_a_metric_that_is_there_and_is_explained() -> None:
    there = set(re.findall(r"^# TYPE (\w+)", Metrics().text(None).decode(), re.MULTILINE)) | {"up"}
    guide = (PROJECT / "docs" / "guides" / "operating.md").read_text(encoding="utf-8")
    (group,) = yaml.safe_load(text_of("alarms.yaml"))["groups"]
    for rule in group["rules"]:
        named = set(re.findall(r"\b(?:immunos_mcp|process)_\w+|\bup\b", rule["expr"]))
        assert named, rule
        assert {re.sub("_(count|bucket)$", "", name) for name in named} <= there
        assert f"### {rule['alert']}\n" in guide
    assert guide.count("\n### ") == len(group["rules"])
