"""A client's opening, answered before the SDK is loaded, which takes most of a second.

The answers are those that the SDK gave (``recording.py`` records them), so this is no
second implementation of the protocol: a message whose shape is not exactly the expected one waits
for the SDK, and so does every message where another version of the SDK is installed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast
from zlib import crc32

from immunos_mcp import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from immunos_mcp.answers.encoding import Json

JsonObject: TypeAlias = "dict[str, Json]"
RequestId: TypeAlias = "int | str"

RECORDED_FILE = Path(__file__).with_name("recorded_answers.json")

STATELESS_VERSION = "2026-07-28"
LISTS = ("tools/list", "resources/list", "prompts/list")
LISTEN = "subscriptions/listen"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"

_META = "io.modelcontextprotocol/"
VERSION_KEY = f"{_META}protocolVersion"
SUBSCRIPTION_KEY = f"{_META}subscriptionId"
_ENVELOPE = {VERSION_KEY, f"{_META}clientInfo", f"{_META}clientCapabilities"}
_CLIENT_TEXTS = {"name", "version", "title", "description", "websiteUrl"}
_LARGEST_ID = 2**53
_MOST_BRACKETS = 100
"""More of them may be nested more deeply than the server's parser reads."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


RecordedAnswers: TypeAlias = "Mapping[str, Mapping[str, JsonObject]]"
"""The result of each method of an opening, by protocol version."""


def recorded_answers(*, delegate: bool) -> RecordedAnswers | None:
    """Return the answers of the SDK that is installed; ``None``: none were recorded from it yet.

    Args:
        delegate: whether tasks can be handed over, which changes what is listed.
    """
    installed = installed_sdk(sys.path)
    if installed is None:
        return None
    combination = "delegate" if delegate else "no delegate"
    answers = _recording(RECORDED_FILE, installed, combination)
    # Where the file is depends on what the package brings, which is not read twice for nothing.
    return answers or _recording(cache_file(installed, os.environ), installed, combination)


def _recording(file: Path, sdk: str, combination: str) -> RecordedAnswers | None:
    """Return what a file has of an SDK; ``None``: nothing, or nothing that can be used."""
    try:
        recorded = json.loads(file.read_bytes())
        return _looked_up(recorded[combination], recorded) if recorded["sdk"] == sdk else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _looked_up(places: Mapping[str, Mapping[str, int]], recorded: JsonObject) -> RecordedAnswers:
    """Return the results that the numbers in a recording stand for: most serve several versions."""
    results = cast("list[JsonObject]", recorded["results"])
    return {
        version: {method: results[place] for method, place in methods.items()}
        for version, methods in places.items()
    }


def installed_sdk(search_path: Iterable[str]) -> str | None:
    """Return the version of the SDK that an import would find, without importing anything."""
    for entry in search_path:
        folder = entry or "."
        if os.path.isdir(os.path.join(folder, "mcp")):  # noqa: PTH112, PTH118  # in every start
            names = (name for name in os.listdir(folder) if name.endswith(".dist-info"))  # noqa: PTH208
            found = [name[4:-10] for name in names if name.startswith("mcp-")]
            return found[0] if len(found) == 1 else None
    return None


def cache_file(sdk: str, environment: Mapping[str, str]) -> Path:
    """Return where answers of another version of the SDK than the recorded one are kept."""
    folder = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    # What this release lists is part of the name: an upgrade must not serve the last one's lists.
    release = f"{__version__}-{crc32(RECORDED_FILE.read_bytes()):08x}"
    return Path(folder, "immunos-mcp", f"opening-{release}-{sdk}.json")


class Handled(NamedTuple):
    """What becomes of a line of the opening.

    Attributes:
        answer: what to send at once, a whole line; empty: nothing yet.
        is_for_server: whether the server has to see the line.
        is_urgent: whether the client waits for the server's answer to it.
    """

    answer: bytes = b""
    is_for_server: bool = True
    is_urgent: bool = True


class Opening:
    """Answers what a client sends first, as long as nothing has to be worked out for it."""

    def __init__(self, answers: RecordedAnswers | None) -> None:
        """Answer with what was recorded; ``None``: answer nothing."""
        self._answers = answers or {}
        self._version: str | None = None
        self._is_too_late = False

    def handle(self, line: bytes) -> Handled:
        """Answer a line, or leave it to the server."""
        message = _message(line)
        if _is_notification(message):
            return Handled(is_urgent=False)
        request = _request(message)
        result = None if request is None else self._result(self._answers, request)
        if request is None or result is None:
            self._is_too_late |= request is None or not _is_stateless(request)
            return Handled()
        answer: JsonObject = {"jsonrpc": "2.0", "id": request.request_id, "result": result}
        if request.method == LISTEN:
            # No result: that comes when the client listens no more.
            answer = {"jsonrpc": "2.0", "method": ACKNOWLEDGED, "params": result}
        encoded = json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        # The server's connection begins with the handshake, and it is the server that listens.
        is_for_server = request.method in {"initialize", LISTEN}
        return Handled(encoded, is_for_server, is_urgent=False)

    def _result(self, answers: RecordedAnswers, request: _Request) -> JsonObject | None:
        if request.meta is not None:
            return _stateless_result(answers, request)
        if request.method == "initialize":
            return self._initialized(answers, request)
        if request.params:
            return None
        if request.method == "ping":
            return {}
        return answers.get(self._version or "", {}).get(request.method)

    def _initialized(self, answers: RecordedAnswers, request: _Request) -> JsonObject | None:
        # A second handshake, and one that comes after other requests, is the SDK's to judge.
        if self._version is not None or self._is_too_late:
            return None
        params = request.params
        version = params.get("protocolVersion")
        if params.keys() != {"protocolVersion", "capabilities", "clientInfo"}:
            return None
        if not isinstance(version, str) or "initialize" not in answers.get(version, {}):
            return None
        if not (_is_client(params["clientInfo"]) and _are_capabilities(params["capabilities"])):
            return None
        self._version = version
        return answers[version]["initialize"]


class _Request(NamedTuple):
    request_id: RequestId
    method: str
    params: JsonObject
    meta: JsonObject | None


def _message(line: bytes) -> Json:
    """Return the value of a line that every parser reads alike; ``None``: it may be no such line."""
    # Half of a surrogate pair has no UTF-8, and the server rejects it.
    if _SURROGATE.search(line) or line.count(b"{") + line.count(b"[") > _MOST_BRACKETS:
        return None
    try:
        # Decoded here: the parser would guess at other encodings, which the server does not read.
        value: Json = json.loads(line.decode())
    except ValueError:
        return None
    return value


def _is_notification(message: Json) -> bool:
    """Return whether a message is one that nobody answers, not even with an error."""
    return (
        isinstance(message, dict)
        and "id" not in message
        and message.get("jsonrpc") == "2.0"
        and isinstance(message.get("method"), str)
        and isinstance(message.get("params", {}), dict)
    )


def _is_stateless(request: _Request) -> bool:
    """Return whether the handshake's side of the server never sees a request."""
    meta = request.meta or {}
    return request.method != "initialize" and VERSION_KEY in meta


def _request(message: Json) -> _Request | None:
    """Return a message as a request, if it is one without anything unusual."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return None
    request_id, method = message.get("id"), message.get("method")
    params = message.get("params", {})
    if message.keys() - {"jsonrpc", "id", "method", "params"}:
        return None
    if not (_is_id(request_id) and isinstance(method, str) and isinstance(params, dict)):
        return None
    meta = params.get("_meta")
    if "_meta" in params and not isinstance(meta, dict):
        return None
    return _Request(cast("RequestId", request_id), method, params, cast("JsonObject | None", meta))


def _stateless_result(answers: RecordedAnswers, request: _Request) -> JsonObject | None:
    """Answer a request that carries its whole envelope."""
    meta = cast("JsonObject", request.meta)
    if meta.keys() != _ENVELOPE:
        return None
    if meta[VERSION_KEY] != STATELESS_VERSION:
        return None
    if not _is_client(meta[f"{_META}clientInfo"]):
        return None
    if not _are_capabilities(meta[f"{_META}clientCapabilities"]):
        return None
    result = answers.get(STATELESS_VERSION, {}).get(request.method)
    if request.method == LISTEN and result is not None:
        return _acknowledged(result, request)
    return result if request.params.keys() == {"_meta"} else None


def _acknowledged(offered: JsonObject, request: _Request) -> JsonObject | None:
    """Acknowledge that a client listens to some of what there is to listen to, and nothing else."""
    wanted = request.params.get("notifications")
    if request.params.keys() != {"_meta", "notifications"} or not isinstance(wanted, dict):
        return None
    if not wanted or any(flag is not True or name not in offered for name, flag in wanted.items()):
        return None
    return {"_meta": {SUBSCRIPTION_KEY: request.request_id}, "notifications": wanted}


def _is_id(value: Json) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str) or (isinstance(value, int) and abs(value) < _LARGEST_ID)


def _is_client(value: Json) -> bool:
    """Return whether a client introduces itself with texts alone."""
    return (
        isinstance(value, dict)
        and {"name", "version"} <= value.keys() <= _CLIENT_TEXTS
        and all(isinstance(text, str) for text in value.values())
    )


def _are_capabilities(value: Json) -> bool:
    """Return whether capabilities are some that we know, in the shape that their standard gives."""
    if not isinstance(value, dict):
        return False
    return all(
        name in _CAPABILITIES and isinstance(members, dict) and _CAPABILITIES[name](members)
        for name, members in value.items()
    )


def _are_objects(members: JsonObject) -> bool:
    return all(isinstance(member, dict) for member in members.values())


def _are_empty_objects(members: JsonObject) -> bool:
    return all(member == {} for member in members.values())


def _are_flags(members: JsonObject) -> bool:
    return all(isinstance(member, bool) for member in members.values())


_CAPABILITIES: Mapping[str, Callable[[JsonObject], bool]] = {
    "roots": _are_flags,
    "elicitation": _are_empty_objects,
    "sampling": _are_empty_objects,
    "experimental": _are_objects,
    "extensions": _are_objects,
}
