"""What gateways send is what was measured, without paths; and nothing else can be read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import PlanUsage, TokenCounts
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.gateway_messages import (
    GatewayRequest,
    PushedModelTotal,
    PushedPlanUsage,
    PushedRequest,
    PushedResponse,
    PushedTotal,
    PushedUsage,
    label_of,
    read_request,
)
from immunos_mcp.logged_usage import (
    ConversationTotal,
    MeasuredUsage,
    ModelTotal,
    PlanReport,
    RequestUsage,
)
from immunos_mcp.rules.names import is_printable

NAMES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x17F), min_size=1, max_size=200
).filter(is_printable)
COUNTS = st.integers(0, 10**9)
MOMENTS = st.datetimes(datetime(2000, 1, 2), datetime(2999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds it
FOLDERS = st.none() | st.text(max_size=300)
OPTIONAL = st.none() | NAMES

USAGE = st.builds(
    MeasuredUsage,
    NAMES,
    MOMENTS,
    NAMES,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    FOLDERS,
    OPTIONAL,
    NAMES,
    OPTIONAL,
    st.none() | COUNTS,
    OPTIONAL,
    OPTIONAL,
    st.none() | NAMES | st.just(""),
    st.none() | COUNTS,
    st.none() | st.booleans(),
    OPTIONAL,
    st.lists(NAMES, max_size=3).map(tuple),
)
REQUESTS = st.builds(
    RequestUsage,
    NAMES,
    MOMENTS,
    NAMES,
    st.builds(TokenCounts, COUNTS, COUNTS, COUNTS, COUNTS),
    OPTIONAL,
)
TOTALS = st.builds(
    ConversationTotal,
    NAMES,
    st.integers(0, 2**44),
    MOMENTS,
    st.lists(st.builds(ModelTotal, NAMES, *([COUNTS] * 6)), max_size=2).map(tuple),
    st.none() | MOMENTS,
    FOLDERS,
    st.booleans(),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(("version", "responses", "models", "label", "at")) | st.text(max_size=5)
    return st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)


REPORTS = st.builds(PlanReport, MOMENTS, st.builds(PlanUsage, NAMES, st.floats(0, 100), MOMENTS))


@given(USAGE, REQUESTS, TOTALS, REPORTS)
def test_what_is_measured_arrives_as_it_was_but_for_its_folder(
    usage: MeasuredUsage, request: RequestUsage, total: ConversationTotal, report: PlanReport
) -> None:
    pushed = PushedUsage(
        (PushedResponse.of(usage),),
        (PushedRequest.of(request),),
        (PushedTotal.of(total),),
        (PushedPlanUsage.of(report),),
    )
    read = read_request(msgspec.json.encode(GatewayRequest(1, (), pushed))).usage
    assert read is not None
    assert read.responses[0].usage == usage._replace(folder=label_of(usage.folder))
    assert read.requests[0].usage == request
    # Its number has gone into the time by then.
    assert read.totals[0].total == total._replace(folder=label_of(total.folder), number=0)
    assert read.plan[0].report == report


@given(st.text())
def test_a_label_is_short_and_no_path(folder: str) -> None:
    label = label_of(folder)
    assert label is None or (0 < len(label) <= 200 and not {"/", "\\"} & set(label))
    assert label is None or is_printable(label)


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("/home/ada/webshop", "webshop"),
        ("/home/ada/webshop/", "webshop"),
        ("C:\\code\\webshop", "webshop"),
        ("/", None),
        ("", None),
        (None, None),
        (f"/{'x' * 500}", "x" * 200),
        ("/a/\x1b[2Jb\u202e", "[2Jb"),
    ],
)
def test_a_label_is_a_folders_last_component(folder: str | None, label: str | None) -> None:
    assert label_of(folder) == label


def test_the_fields_that_are_sent_stand_in_the_order_in_which_they_are_stored() -> None:
    for message, stored in (
        (PushedResponse, MeasuredUsage._fields),
        (PushedTotal, ConversationTotal._fields[:-1]),
        (PushedModelTotal, ModelTotal._fields),
    ):
        named = tuple("label" if name == "folder" else name for name in stored)
        assert message.__struct_fields__ == named


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), _nested))
def test_whatever_else_is_sent_is_refused_in_words(document: Any) -> None:
    for sent in (document, {"version": 1, "usage": document}, {"version": 1, "call": document}):
        words = _refusal(msgspec.json.encode(sent))
        assert is_printable(words)
        assert len(words) <= 400


def _refusal(body: bytes) -> str:
    """Return why a request is refused; nothing: it is not."""
    try:
        read_request(body)
    except InvalidInputError as error:
        return str(error)
    return ""
