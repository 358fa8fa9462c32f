"""An opening is answered as the SDK answers it, or not at all."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from immunos_mcp.server import opening, recording
from immunos_mcp.server.opening import LISTS, RECORDED_FILE, STATELESS_VERSION, Opening

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = {"name": "client", "version": "1"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": STATELESS_VERSION,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {"roots": {"listChanged": True}},
}
PARAMS = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
LEFT_TO_SERVER = opening.Handled()

Message = dict[str, Any]


def request(method: str, params: Any = None, request_id: Any = 1) -> Message:
    message = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return message if params is None else {**message, "params": params}


INITIALIZE = request("initialize", PARAMS, 0)


@cache
def recorded(*, delegate: bool = True) -> opening.RecordedAnswers:
    answers = opening.recorded_answers(delegate=delegate)
    assert answers is not None, "run python -m immunos_mcp.server.recording"
    return answers


def handle(opened: Opening, message: object) -> Any:
    """Return the answer to a message; ``None``: it was left to the server."""
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    handled = opened.handle(text)
    if not handled.answer:
        assert handled.is_for_server
        return None
    assert handled.answer.endswith(b"\n")
    assert handled.answer.count(b"\n") == 1
    return json.loads(handled.answer)


@pytest.mark.anyio
async def test_what_is_recorded_is_what_the_sdk_answers() -> None:
    """Where it differs, ``python -m immunos_mcp.server.recording`` records it anew."""
    assert json.loads(RECORDED_FILE.read_text(encoding="utf-8")) == await recording.record()


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
@pytest.mark.parametrize("delegate", [True, False])
def test_a_handshake_and_the_lists_after_it_are_answered(version: str, delegate: bool) -> None:
    answers = recorded(delegate=delegate)
    opened = Opening(answers)
    handled = opened.handle(
        json.dumps(request("initialize", {**PARAMS, "protocolVersion": version}, "a")).encode()
    )
    assert (handled.is_for_server, handled.is_urgent) == (True, False)
    result = json.loads(handled.answer)["result"]
    assert result == answers[version]["initialize"]
    assert result["protocolVersion"] == version
    assert ("prompts" in result["capabilities"]) is delegate
    for method in LISTS:
        expected = answers[version].get(method)
        assert (expected is None) is (method == "prompts/list" and not delegate)
        answer = None if expected is None else {"jsonrpc": "2.0", "id": 2, "result": expected}
        assert handle(opened, request(method, request_id=2)) == answer
    assert handle(opened, request("ping", {}, "p")) == {"jsonrpc": "2.0", "id": "p", "result": {}}


@pytest.mark.parametrize("method", ["server/discover", *LISTS])
def test_a_request_with_a_complete_envelope_is_answered_at_any_time(method: str) -> None:
    answers = recorded()
    opened = Opening(answers)
    message = request(method, {"_meta": ENVELOPE}, "server-discover-probe-1")
    for _ in range(2):
        handled = opened.handle(json.dumps(message).encode())
        assert not handled.is_for_server
        assert json.loads(handled.answer) == {
            "jsonrpc": "2.0",
            "id": "server-discover-probe-1",
            "result": answers[STATELESS_VERSION][method],
        }
        handle(opened, request("tools/call", {"name": "x"}))


FLAGS = ("toolsListChanged", "promptsListChanged", "resourcesListChanged")


@pytest.mark.anyio
@pytest.mark.parametrize("request_id", ["listen:0", 0])
@pytest.mark.parametrize("wanted", [FLAGS, FLAGS[:1], FLAGS[1:]])
async def test_who_listens_is_told_so_as_the_sdk_does_and_heard_by_the_server(
    request_id: object, wanted: tuple[str, ...]
) -> None:
    params = {"_meta": ENVELOPE, "notifications": dict.fromkeys(wanted, True)}
    message = request("subscriptions/listen", params, request_id)
    handled = Opening(recorded()).handle(json.dumps(message).encode())
    assert (handled.is_for_server, handled.is_urgent) == (True, False)
    answer = json.loads(handled.answer)
    assert answer.pop("method") == "notifications/subscriptions/acknowledged"
    async with recording.listing_server(delegate=True) as server:
        (told,) = await recording.results_of(server, [("subscriptions/listen", params)])
    assert told is not None
    meta = {"io.modelcontextprotocol/subscriptionId": request_id}
    assert answer == {"jsonrpc": "2.0", "params": {**told, "_meta": meta}}


def nested(levels: int) -> Message:
    return {"x": nested(levels - 1)} if levels else {}


UNUSUAL: list[object] = [
    request("subscriptions/listen", {"_meta": ENVELOPE, "notifications": {}}),
    request("subscriptions/listen", {"_meta": ENVELOPE, "notifications": {FLAGS[0]: False}}),
    request(
        "subscriptions/listen",
        {"_meta": ENVELOPE, "notifications": {"resourceSubscriptions": ["immunos://status"]}},
    ),
    request(
        "subscriptions/listen", {"_meta": ENVELOPE, "notifications": {FLAGS[0]: True}, "more": 1}
    ),
    b"",
    b"{",
    b"[" * 100_000,
    b'\xff{"jsonrpc":"2.0"}',
    b'{"jsonrpc":"2.0","method":5}',
    b'{"jsonrpc":"2.0","method":"x","params":[]}',
    json.dumps(INITIALIZE).encode("utf-8-sig"),
    json.dumps(INITIALIZE).encode("utf-16-le"),
    request("initialize", {**PARAMS, "capabilities": {"experimental": {"x": nested(300)}}}),
    [INITIALIZE],
    {**INITIALIZE, "jsonrpc": "1.0"},
    {**INITIALIZE, "id": True},
    {**INITIALIZE, "id": 1.5},
    {**INITIALIZE, "id": None},
    {**INITIALIZE, "id": 2**60},
    {**INITIALIZE, "more": 1},
    {**INITIALIZE, "params": []},
    request("initialize"),
    request("initialize", {**PARAMS, "protocolVersion": "1999-01-01"}),
    request("initialize", {**PARAMS, "protocolVersion": STATELESS_VERSION}),
    request("initialize", {**PARAMS, "protocolVersion": 20251125}),
    request("initialize", {**PARAMS, "_meta": {"progressToken": 1}}),
    request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}),
    request("initialize", {**PARAMS, "capabilities": None}),
    request("initialize", {**PARAMS, "capabilities": {"roots": True}}),
    request("initialize", {**PARAMS, "capabilities": {"roots": {"listChanged": "maybe"}}}),
    request("initialize", {**PARAMS, "capabilities": {"elicitation": {"form": 1}}}),
    request("initialize", {**PARAMS, "capabilities": {"experimental": {"x": 1}}}),
    request("initialize", {**PARAMS, "capabilities": {"teleport": {}}}),
    request("initialize", {**PARAMS, "clientInfo": {"name": "x"}}),
    request("initialize", {**PARAMS, "clientInfo": {"name": "x", "version": 1}}),
    request("initialize", {**PARAMS, "clientInfo": {**CLIENT, "icons": []}}),
    request("tools/list"),
    request("tools/list", {"cursor": "x", "_meta": ENVELOPE}),
    request("tools/list", {"_meta": {**ENVELOPE, "progressToken": 1}}),
    request(
        "tools/list", {"_meta": {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2099-1-1"}}
    ),
    request("tools/list", {"_meta": None}),
    request(
        "server/discover", {"_meta": {"io.modelcontextprotocol/protocolVersion": STATELESS_VERSION}}
    ),
    request("server/discover", {}),
    request("initialize", {**PARAMS, "_meta": ENVELOPE}),
    request("tools/call", {"name": "route_task", "arguments": {}}),
    request("subscriptions/listen", {"_meta": ENVELOPE}),
    request("ping", {"_meta": ENVELOPE}),
]


@pytest.mark.parametrize("message", UNUSUAL)
def test_whatever_is_not_exactly_an_opening_waits_for_the_server(message: object) -> None:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    assert Opening(recorded()).handle(text) == LEFT_TO_SERVER


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (INITIALIZE, INITIALIZE),
        (request("tools/list"), INITIALIZE),
        (request("tools/list", {"_meta": {"progressToken": 1}}), INITIALIZE),
        (request("initialize", {**PARAMS, "_meta": {"progressToken": 1}}), INITIALIZE),
        (request("initialize", {**PARAMS, "_meta": ENVELOPE}), INITIALIZE),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"\xff"}}', INITIALIZE),
        (INITIALIZE, request("tools/list", {"cursor": "x"})),
        (INITIALIZE, request("resources/templates/list")),
    ],
)
def test_a_handshake_out_of_order_waits_for_the_server(before: object, message: Message) -> None:
    opened = Opening(recorded())
    handle(opened, before)
    assert handle(opened, message) is None


def test_a_notification_waits_without_haste_and_forbids_no_handshake() -> None:
    opened = Opening(recorded())
    told = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    assert opened.handle(told) == opening.Handled(is_urgent=False)
    assert handle(opened, INITIALIZE) is not None


@pytest.mark.parametrize("message", [INITIALIZE, request("tools/list", {"_meta": ENVELOPE})])
def test_without_a_recording_everything_waits_for_the_server(message: Message) -> None:
    assert Opening(None).handle(json.dumps(message).encode()) == LEFT_TO_SERVER


VALUES: list[Any] = [
    None,
    True,
    0,
    1.5,
    "",
    "x",
    "2025-06-18",
    "2026-07-28",
    [],
    {},
    {"x": {}},
    CLIENT,
    ENVELOPE,
]


@st.composite
def changed(draw: st.DrawFn) -> Message:
    """Draw an opening with one value, at any depth, replaced, added or removed."""
    params = draw(st.sampled_from([PARAMS, {"_meta": ENVELOPE}, {}]))
    method = draw(st.sampled_from(["initialize", "server/discover", "ping", *LISTS]))
    message: Message = json.loads(json.dumps(request(method, params)))
    place = message
    while inner := [
        cast("Message", value) for value in place.values() if value and isinstance(value, dict)
    ]:
        if draw(st.booleans()):
            break
        place = draw(st.sampled_from(inner))
    name = draw(st.sampled_from([*place, "more"]))
    if draw(st.booleans()):
        place.pop(name, None)
    else:
        place[name] = draw(st.sampled_from(VALUES))
    return message


@pytest.mark.anyio
async def test_no_changed_opening_is_answered_otherwise_than_by_the_sdk() -> None:
    answered: list[tuple[Message, Message]] = []

    @settings(max_examples=500)
    @given(changed())
    def collect(message: Message) -> None:
        answer = handle(Opening(recorded()), message)
        if answer is not None:
            answered.append((message, answer["result"]))

    collect()
    assert len(answered) > 20
    async with recording.listing_server(delegate=True) as server:
        for message, result in answered:
            (expected,) = await recording.results_of(
                server, [(message["method"], message.get("params", {}))]
            )
            assert result == expected, message


def test_the_sdk_is_the_one_that_an_import_finds(tmp_path: Path) -> None:
    for name in ("first/other", "second/mcp", "second/mcp-2.5.1.dist-info", "third/mcp"):
        (tmp_path / name).mkdir(parents=True)
    search = [str(tmp_path / name) for name in ("first", "gone", "second", "third")]
    assert opening.installed_sdk(search) == "2.5.1"
    assert opening.installed_sdk([search[3], search[2]]) is None
    assert opening.installed_sdk(search[:1]) is None
    (tmp_path / "second/mcp-2.6.dist-info").mkdir()
    assert opening.installed_sdk(search) is None


@pytest.mark.parametrize(
    "kept", ["", "{}", "[]", '{"sdk": "9.9"}', '{"sdk": "9.9", "delegate": {"x": {"y": 7}}}']
)
def test_a_damaged_recording_of_another_sdk_is_none(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def installed(_search_path: object) -> str:
        return "9.9"

    monkeypatch.setattr(opening, "installed_sdk", installed)
    file = opening.cache_file("9.9", {"XDG_CACHE_HOME": str(tmp_path)})
    file.parent.mkdir()
    file.write_text(kept, encoding="utf-8")
    assert opening.recorded_answers(delegate=True) is None


@pytest.mark.parametrize(
    "message",
    [
        request("ping", request_id="\ud800"),
        request("initialize", PARAMS | {"clientInfo": {"name": "\udc00", "version": "1"}}),
    ],
)
def test_half_a_surrogate_pair_is_left_to_the_server(message: Message) -> None:
    assert Opening(recorded()).handle(json.dumps(message).encode()) == LEFT_TO_SERVER
