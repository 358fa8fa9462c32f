"""The resources, through the official client of both protocol eras."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from sdk_clients import ERAS, Era, answer, in_process, read_json
from settings_in_force import ADVANCED, CONFIG, EMPTY

from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, Settings, values

if TYPE_CHECKING:
    from pathlib import Path


TASK = {"task_type": "code_review", "classification": "routine"}
NAMES = ("a", "a/b", "größe 日本", "100%", "a?b#c", "a%2Fb", "status", "🦉 owl", "..", "a+b")


@pytest.mark.anyio
@ERAS
async def test_the_resources_and_the_template_are_listed(tmp_path: Path, era: Era) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
    assert [(str(resource.uri), resource.mime_type) for resource in resources] == [
        ("immunos://status", "application/json"),
        ("immunos://config", "application/json"),
    ]
    assert [(template.uri_template, template.mime_type) for template in templates] == [
        ("immunos://sessions/{name}/status", "application/json")
    ]


@pytest.mark.anyio
@ERAS
async def test_a_named_session_s_status_is_read_under_its_percent_encoded_name(
    tmp_path: Path, era: Era
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        await answer(client, "route_task", **TASK)
        for tokens, name in enumerate(NAMES, start=7):
            used = {"model": "m:1", "input_tokens": tokens, "output_tokens": 0}
            await answer(client, "record_usage", **used, session=name)
            status = await read_json(client, f"immunos://sessions/{quote(name, safe='')}/status")
            assert (status["session"], status["kept_local_tokens"]) == (name, tokens)
            assert status == await answer(client, "get_session_status", session=name)
        assert (await read_json(client, "immunos://status"))["kept_local_tokens"] == 0


@pytest.mark.anyio
async def test_the_settings_in_force_are_read_as_a_resource(tmp_path: Path) -> None:
    async with in_process(tmp_path / "ledger.db") as client:
        assert await read_json(client, "immunos://config") == CONFIG | ADVANCED | EMPTY
        await answer(client, "update_config", task_mappings={"größe": "m:1"}, input_weight=0.5)
        changed = (
            CONFIG
            | ADVANCED
            | EMPTY
            | {
                "input_weight": 0.5,
                "task_mappings": {**DEFAULT_TASK_MAPPINGS, "größe": "m:1"},
            }
        )
        assert await read_json(client, "immunos://config") == changed


@pytest.mark.anyio
@ERAS
@pytest.mark.parametrize(
    "uri",
    [
        "immunos://nothing",
        "immunos://status/",
        "immunos://sessions//status",
        "immunos://sessions/a/b/status",
        "immunos://sessions/a",
        "file:///etc/passwd",
        "immunos://" + "x" * 10_000,
    ],
)
async def test_an_unknown_resource_is_an_error_that_names_it(
    tmp_path: Path, era: Era, uri: str
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
    assert refused.value.code == types.INVALID_PARAMS
    assert refused.value.message.startswith(f"Unknown resource: '{uri[:50]}")
    assert len(refused.value.message) < 300


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["%00", "%20", "x" * 65, "%E2%80%8B", "%0A"])
async def test_a_session_name_that_cannot_be_taken_is_an_error_of_the_resource_too(
    tmp_path: Path, name: str
) -> None:
    async with in_process(tmp_path / "ledger.db") as client:
        with pytest.raises(MCPError, match=r"session: must be 1 to 64 printable"):
            await client.read_resource(f"immunos://sessions/{name}/status")


def test_the_default_settings_are_the_ones_that_are_documented() -> None:
    assert values(Settings()) == CONFIG | ADVANCED | EMPTY
