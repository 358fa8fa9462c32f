"""A database whose answer to COMMIT is lost: it has stored everything, and nobody was told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import postgresql_server
import pytest
from cut_connections import CommitsCut

from immunos_mcp.errors import LedgerError
from immunos_mcp.gateway_messages import PushedResponse, PushedUsage
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.receiving import PushedSession, Receiver
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Generator

    from immunos_mcp.ledger.connections.ledger import Ledger

pytestmark = pytest.mark.postgres


@contextmanager
def cutting() -> Generator[tuple[Ledger, Router, CommitsCut]]:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    with (
        CommitsCut(postgresql_server.empty_ledger()) as cut,
        InlinePostgresqlLedger(cut.address) as ledger,
    ):
        router = Router(ledger, "default")
        run_sync(router.get_session_status())
        yield ledger, router, cut


def test_a_decision_whose_answer_is_lost_may_have_been_stored_and_is_not_repeated() -> None:
    with cutting() as (_, router, cut):
        cut.left = 1
        with pytest.raises(LedgerError, match="did not say whether this was stored"):
            run_sync(router.route_task("debug", "routine"))
        assert cut.left == 0
        assert sum(run_sync(router.get_session_status()).decisions.values()) == 1


def test_pushed_usage_is_stored_once_though_nobody_was_told() -> None:
    usage = MeasuredUsage("m-1", utc_now(), "claude-sonnet-4-5", 5, 1)
    with cutting() as (ledger, router, cut):
        receiver = Receiver(ledger, PushedSession("default"))
        cut.left = 1
        run_sync(receiver.store(PushedUsage((PushedResponse.of(usage),)), ("claude-code",)))
        assert cut.left == 0
        assert run_sync(router.get_session_status()).session_tokens == 6


def test_usage_with_an_id_is_repeated_and_counts_once() -> None:
    with cutting() as (_, router, cut):
        for request_id, lost in (("a", 1), ("b", 0)):
            cut.left = lost
            run_sync(
                router.record_usage(
                    "claude-x", input_tokens=5, output_tokens=1, request_id=request_id
                )
            )
            assert cut.left == 0
        assert run_sync(router.get_session_status()).session_tokens == 12
        cut.left = 1
        with pytest.raises(LedgerError, match="did not say whether this was stored"):
            run_sync(router.record_usage("claude-x", input_tokens=5, output_tokens=1))
        assert run_sync(router.get_session_status()).session_tokens == 18
