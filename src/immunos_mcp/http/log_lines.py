"""The log: one line of JSON for each event, on standard error.

Requests are logged by what they asked for and how it went, never with headers, queries or bodies, so that no
secret and no text of a user can get in.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

REQUESTS = logging.getLogger("immunos_mcp.http.requests")
"""The log of requests; the fields are in ``extra={"fields": ...}``."""


class JsonLines(logging.Formatter):
    """Formats a record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))


def log_to_standard_error() -> None:
    """Write the log of everything in this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    REQUESTS.setLevel(logging.INFO)
    # The SDK's own warnings about requests repeat what a client sent, and the log of requests has the rest.
    for name in ("mcp", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.ERROR)
