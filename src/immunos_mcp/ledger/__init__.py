"""The ledger: everything that is stored, behind a few whole operations.

``inline.py`` and ``threaded.py`` hold the two ways to it; importing one does not load the other.
"""

from immunos_mcp.ledger.engines import to_text as engine_text
from immunos_mcp.ledger.operations import ReadingState, Recorded, Reset, SettingsChanged, Standing
from immunos_mcp.ledger.sqlite import SqliteLedger

__all__ = [
    "ReadingState",
    "Recorded",
    "Reset",
    "SettingsChanged",
    "SqliteLedger",
    "Standing",
    "engine_text",
]
