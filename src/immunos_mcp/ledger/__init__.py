"""The ledger: everything that is stored, behind a few whole operations.

``inline.py`` and ``threaded.py`` hold the two ways to it; importing one does not load the other.
"""

from immunos_mcp.ledger.engines import to_text as engine_text
from immunos_mcp.ledger.measured_usage import ReadingState
from immunos_mcp.ledger.reported_usage import Recorded
from immunos_mcp.ledger.sessions import Reset
from immunos_mcp.ledger.sqlite import SqliteLedger
from immunos_mcp.ledger.standings import Standing
from immunos_mcp.ledger.stored_settings import SettingsChanged

__all__ = [
    "ReadingState",
    "Recorded",
    "Reset",
    "SettingsChanged",
    "SqliteLedger",
    "Standing",
    "engine_text",
]
