"""What joining shows of what will be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from msgspec import inspect

from immunos_mcp.gateway.joining import Offer, preview
from immunos_mcp.gateway_messages import GatewayRequest
from immunos_mcp.ledger.joined_team import JoinedTeam

if TYPE_CHECKING:
    from collections.abc import Iterator


def _messages(kind: inspect.Type) -> Iterator[inspect.StructType]:
    """Return every message that one can contain, itself included."""
    if isinstance(kind, inspect.StructType):
        yield kind
        inner = [field.type for field in kind.fields]
    elif isinstance(kind, inspect.UnionType):
        inner = [*kind.types]
    elif isinstance(kind, inspect.VarTupleType):
        inner = [kind.item_type]
    else:
        inner = []
    for each in inner:
        yield from _messages(each)


@pytest.mark.parametrize("sends_labels", [True, False])
def test_every_field_of_every_message_is_shown(sends_labels: bool) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    team = JoinedTeam("g", "https://example.com", "red", "ada", now, now, sends_labels)
    shown = preview(Offer(team, "member", None, is_renewal=False)).splitlines()
    kinds = list(_messages(inspect.type_info(GatewayRequest)))
    assert len(kinds) == 10
    for kind in kinds:
        fields = [field.name for field in kind.fields if sends_labels or field.name != "label"]
        assert any(line.endswith(f": {', '.join(fields)}") for line in shown), kind.cls
