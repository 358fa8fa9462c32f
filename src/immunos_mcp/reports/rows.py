"""Formats exported rows as JSON lines or CSV, one batch at a time."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import msgspec

from immunos_mcp.answers.encoding import escaped_json
from immunos_mcp.rules.formatting import csv_cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.export import ExportedRows
    from immunos_mcp.reports.output_file import Output


def sink(form: str, output: Output) -> Callable[[ExportedRows], None]:
    """Return a function that writes batches of rows to an output as ``jsonl`` or ``csv``."""
    return _csv_sink(output) if form == "csv" else _json_sink(output)


def _json_sink(output: Output) -> Callable[[ExportedRows], None]:
    encoder = msgspec.json.Encoder()

    def write(batch: ExportedRows) -> None:
        lines = (
            {
                "table": batch.table,
                **{
                    column: value
                    for column, value in zip(batch.columns, row, strict=True)
                    if value is not None
                },
            }
            for row in batch.rows
        )
        output.write(escaped_json(encoder.encode_lines(lines).decode()).encode())

    return write


def _csv_sink(output: Output) -> Callable[[ExportedRows], None]:
    def write(batch: ExportedRows) -> None:
        written = io.StringIO()
        rows = csv.writer(written, lineterminator="\n")
        # The first batch of a table is empty.
        rows.writerows(
            [csv_cell(cell) if isinstance(cell, str) else cell for cell in row]
            for row in batch.rows or (batch.columns,)
        )
        output.write(written.getvalue().encode())

    return write
