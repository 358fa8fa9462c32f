"""Figures for Prometheus: how many requests and calls there were, how they went and how long they took."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from immunos_mcp.errors import ImmunosError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry, Counter, Histogram, Metric

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

_KEPT = 4096
"""How many combinations of labels are at hand."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsMissingError(ImmunosError):
    """The library that metrics need is not installed."""


class Metrics:
    """The metrics of one server.

    Raises:
        MetricsMissingError: their library is not installed.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import (
                CollectorRegistry,
                Counter,
                Gauge,
                Histogram,
                ProcessCollector,
            )
        except ImportError:
            message = "metrics need prometheus-client: pip install 'immunos-mcp[team]'"
            raise MetricsMissingError(message) from None
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Histogram(
            "immunos_mcp_request_seconds",
            "Time of HTTP requests, by path, status and team.",
            ["path", "status", "team"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._calls = Counter(
            "immunos_mcp_calls",
            "MCP requests, by method, tool, whether they failed and team.",
            ["method", "tool", "failed", "team"],
            registry=self._registry,
        )
        # Looking them up takes longer than counting.
        self._requests_of = lru_cache(_KEPT)(self._labelled_requests)
        self._calls_of = lru_cache(_KEPT)(self._labelled_calls)
        self._under_way = Gauge(
            "immunos_mcp_requests_under_way",
            "HTTP requests that are being answered, streams included.",
            registry=self._registry,
        )

    def _labelled_requests(self, path: str, status: int, team: str) -> Histogram:
        labelled: Histogram = self._requests.labels(path, str(status), team)
        return labelled

    def _labelled_calls(self, method: str, tool: str, team: str, failed: str) -> Counter:
        labelled: Counter = self._calls.labels(method, tool, failed, team)
        return labelled

    def begin_request(self) -> None:
        """Count a request that begins."""
        self._under_way.inc()

    def end_request(self, path: str, status: int, team: str, seconds: float) -> None:
        """Count a request that has ended; ``team`` is empty where nobody is known to have sent it."""
        self._under_way.dec()
        self._requests_of(path, status, team).observe(seconds)

    def count_call(self, method: str, tool: str, team: str, *, failed: bool) -> None:
        """Count an MCP request."""
        self._calls_of(method, tool, team, "yes" if failed else "no").inc()

    def text(self, team: str | None) -> bytes:
        """Return figures in Prometheus' own format: a team's, and those of no team; ``None``: all."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry if team is None else _OfTeam(self._registry, team))


class _OfTeam:
    """What one team may see of all figures; prometheus_client's ``Collector`` describes it."""

    def __init__(self, registry: CollectorRegistry, team: str) -> None:
        self._registry = registry
        self._visible = {"", team}

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                each for each in metric.samples if each.labels.get("team", "") in self._visible
            ]
            yield metric
