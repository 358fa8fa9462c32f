"""Whether a task may be sent to an engine, by the settings in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import EnginesAllowed, HandoverChoice
from immunos_mcp.engines import whereabouts
from immunos_mcp.errors import DelegationError
from immunos_mcp.rules import engine_places, models

if TYPE_CHECKING:
    from immunos_mcp.domain import Engine
    from immunos_mcp.rules.settings import Settings


async def check_permission(model: str, engine: Engine, url: str, settings: Settings) -> None:
    """Check that a task may be sent to a model's engine at ``url``.

    Raises:
        DelegationError: it may not.
    """
    name = models.engine_name(model, engine)
    refused = engine_places.refusal(url, settings, "OLLAMA_HOST" if name == models.OLLAMA else name)
    if settings.engines_allowed is EnginesAllowed.THIS_MACHINE:
        is_here = await whereabouts.is_on_this_machine(url)
        if not is_here or models.leaves_this_machine(model, engine):
            refused = (
                f"{model} at {url} is not on this machine, and engines_allowed is this_machine"
            )
    if settings.handover is HandoverChoice.NEVER:
        refused = "handover is never: nothing is sent to local models"
    if refused is not None:
        raise DelegationError(f"{refused}; or do the task yourself")
