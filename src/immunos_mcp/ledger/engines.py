"""How the ledger encodes the local engine: only what the policy uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import Engine, EngineState, LocalModel
from immunos_mcp.rules.models import loaded_among_equals, provider_of_usage

if TYPE_CHECKING:
    from collections.abc import Collection

    from immunos_mcp.domain import Provider
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings

_FIT = "completion"
_SELECT_NEWEST = "SELECT engine FROM immunos_mcp_engine ORDER BY engine_id DESC LIMIT 1"


def engine_text(engine: Engine) -> str:
    """Encode an engine as one canonical line of JSON; engines that the policy treats alike are equal."""
    import json

    models = {
        canonical: [model.name, model.size_bytes, _is_fit(model)]
        for canonical, model in engine.models.items()
    }
    encoded: dict[str, object] = {"state": engine.state, "models": models}
    if engine.others:
        encoded["others"] = {other.name: other.state for other in engine.others}
        encoded["engines"] = {
            canonical: model.engine for canonical, model in engine.models.items() if model.engine
        }
    if elsewhere := _elsewhere(engine):
        encoded["elsewhere"] = elsewhere
    if passed_on := sorted(name for name, model in engine.models.items() if model.is_passed_on):
        encoded["passed_on"] = passed_on
    loaded = loaded_among_equals(engine.models)
    if loaded:
        encoded["loaded"] = loaded
    return json.dumps(encoded, sort_keys=True, separators=(",", ":"))


def _elsewhere(engine: Engine) -> list[str]:
    """Return the names of the engines that are not on this machine; Ollama's is empty."""
    return sorted(each.name for each in (engine, *engine.others) if each.is_elsewhere)


def engine_of(text: str) -> Engine:
    """Decode an engine; fields that the policy does not use are missing."""
    import json

    decoded = json.loads(text)
    engines, loaded = decoded.get("engines", {}), decoded.get("loaded", [])
    passed_on, elsewhere = decoded.get("passed_on", []), decoded.get("elsewhere", [])
    models = {
        canonical: LocalModel(
            name,
            size_bytes=size_bytes,
            capabilities=frozenset({_FIT} if is_fit else ()),
            is_loaded=canonical in loaded,
            is_passed_on=canonical in passed_on,
            engine=engines.get(canonical, ""),
        )
        for canonical, (name, size_bytes, is_fit) in decoded["models"].items()
    }
    others = tuple(
        Engine(EngineState(state), name=name, is_elsewhere=name in elsewhere)
        for name, state in decoded.get("others", {}).items()
    )
    return Engine(
        EngineState(decoded["state"]), models=models, others=others, is_elsewhere="" in elsewhere
    )


def engine_id(connection: Connection, text: str) -> int:
    """Return the id of an encoded engine, storing it if it is new."""
    row = connection.execute(
        "SELECT engine_id FROM immunos_mcp_engine WHERE engine = ?", (text,)
    ).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO immunos_mcp_engine (engine) VALUES (?) RETURNING engine_id", (text,)
        ).fetchone()
    return int(row[0])


def look_ahead(connection: Connection) -> None:
    """Announce that ``providers_of_usage`` is needed."""
    connection.ahead(_SELECT_NEWEST)


def providers_of_usage(
    connection: Connection, models: Collection[str], settings: Settings
) -> dict[str, Provider]:
    """Return whose tokens the usage of each model is, knowing what the engine had at the last decision."""
    row = connection.execute(_SELECT_NEWEST).fetchone()
    installed = frozenset[str]() if row is None else frozenset(engine_of(row[0]).models)
    return {model: provider_of_usage(model, settings, installed) for model in models}


def _is_fit(model: LocalModel) -> bool:
    return model.capabilities is None or _FIT in model.capabilities
