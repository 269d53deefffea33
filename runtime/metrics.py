"""What is counted and timed, for Prometheus. One object per process, with a registry of its own.

Labels come from small fixed sets, so what they stand for is looked up once (`..._of`): looking it up costs more than counting.

The parts call plain methods; gauges of what other parts hold are functions that are asked at each scrape; the outbox is counted by a query at each scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import Final

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from domain.errors import Unavailable
from domain.events import Recorded
from domain.ports import Appender, Reader
from domain.statements import load_sql
from domain.units import Unit
from projections.registry import FOLLOWED

MEDIA_TYPE: Final = "text/plain; version=0.0.4"

_SQL: Final = load_sql("runtime", "metrics.sql")
_QUERY_WITHIN_S: Final = 2.0
_FAST_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_RUN_S: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Everything that `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._log_metrics()
        self._execution_metrics()
        self._http_metrics()
        self._outbound_metrics()
        self._outbox_metrics()
        self._follower_metrics()

    def committed(self, events: Sequence[Recorded], counts: Mapping[str, int]) -> None:
        """One commit of the log; made to be given to `log.on_commit`."""
        del counts
        self._commits.inc()
        self._events.inc(len(events))
        self._batch_units.observe(len({recorded.metadata.unit_id for recorded in events}))

    def appended(self, seconds: float, *, accepted: bool) -> None:
        """One unit from its offer to its verdict."""
        self._append_s_of("accepted" if accepted else "refused").observe(seconds)

    def executed(self, outcome: str, source: str, seconds: float) -> None:
        """One finished execution. Both words come from small fixed sets (`returned`, `raised`, ...; `http`, `kv`, ...)."""
        self._executions_of(outcome, source).inc()
        self._execution_s_of(source).observe(seconds)

    def rerun(self) -> None:
        """An execution starts again because of a conflict."""
        self._reruns.inc()

    def gate_waited(self, seconds: float) -> None:
        """A request was let in after a wait."""
        self._gate_s.observe(seconds)

    def gate_refused(self) -> None:
        """A request was told to come again."""
        self._gate_refusals.inc()

    def responded(self, plane: str, status: int, seconds: float) -> None:
        """One HTTP answer of the `control` or the `data` plane; status 0: nobody was there to hear it."""
        status_class = f"{status // 100}xx" if status else "none"
        self._responses_of(plane, status_class).inc()
        self._response_s_of(plane).observe(seconds)

    def called_out(self, outcome: str, seconds: float) -> None:
        """One outbound call of a script has ended. The outcome is a `domain.outbound.CallOutcome`, or `cancelled`."""
        self._calls_of(outcome).inc()
        self._call_s.observe(seconds)

    def followed(self, projection: str, events: int) -> None:
        """A followed read model was brought forward here."""
        self._followed.labels(projection).inc(events)

    def follow_failed(self, projection: str) -> None:
        """Events could not be applied to a followed read model."""
        self._follow_failures.labels(projection).inc()

    def blob_fault(self, fault: str) -> None:
        """A blob that was to be read is `missing` or `damaged`."""
        self._blob_faults.labels(fault).inc()

    def watch(self, *, sandbox_workers: Callable[[], float] | None = None, gate_in_use: Callable[[], float] | None = None) -> None:
        """Ask these at each scrape."""
        if sandbox_workers is not None:
            self._sandbox_workers.set_function(sandbox_workers)
        if gate_in_use is not None:
            self._gate_in_use.set_function(gate_in_use)

    async def render(self, reader: Reader) -> bytes:
        """All of it as text. Without the database `picloud_database_up` is 0 and the outbox is not a number."""
        up, rows, lags = await self._ask(reader)
        self._database_up.set(up)
        self._outbox_depth.set(rows["depth"])
        self._outbox_due.set(rows["due"])
        self._outbox_age_s.set(rows["age_s"])
        for name, events in lags.items():
            self._follow_lag.labels(name).set(events)
        return generate_latest(self.registry)

    async def _ask(self, reader: Reader) -> tuple[int, Mapping[str, float], Mapping[str, float]]:
        nothing = dict.fromkeys(("depth", "due", "age_s"), float("nan"))
        unknown = dict.fromkeys((projection.name for projection in FOLLOWED), float("nan"))
        try:
            with anyio.fail_after(_QUERY_WITHIN_S):
                row = (await reader.fetch(_SQL["outbox"]))[0]
                lags = await reader.fetch(_SQL["lag"], list(unknown))
        except (Unavailable, TimeoutError):
            return 0, nothing, unknown
        return 1, {name: float(row[name]) for name in nothing}, {row["name"]: float(row["events"]) for row in lags}

    def _log_metrics(self) -> None:
        self._commits = Counter("picloud_log_commits", "Batches committed to the log.", registry=self.registry)
        self._blob_faults = Counter("picloud_blob_faults", "Reads of files whose stored bytes are missing or damaged.", ["fault"], registry=self.registry)
        self._events = Counter("picloud_log_events", "Events committed to the log.", registry=self.registry)
        self._batch_units = Histogram("picloud_log_batch_units", "Units in a committed batch.", buckets=_SIZES, registry=self.registry)
        append_s = Histogram("picloud_log_append_seconds", "From a unit's offer to its verdict.", ["verdict"], buckets=_FAST_S, registry=self.registry)
        self._append_s_of = cache(append_s.labels)

    def _execution_metrics(self) -> None:
        labels = ["outcome", "source"]
        executions = Counter("picloud_executions", "Finished executions.", labels, registry=self.registry)
        self._executions_of = cache(executions.labels)
        execution_s = Histogram("picloud_execution_seconds", "Duration of executions.", ["source"], buckets=_RUN_S, registry=self.registry)
        self._execution_s_of = cache(execution_s.labels)
        self._reruns = Counter("picloud_execution_reruns", "Executions started again because of a conflict.", registry=self.registry)
        self._sandbox_workers = Gauge("picloud_sandbox_workers", "Sandbox worker processes alive.", registry=self.registry)
        self._gate_s = Histogram("picloud_gate_wait_seconds", "Wait of script requests for a slot.", buckets=_FAST_S, registry=self.registry)
        self._gate_refusals = Counter("picloud_gate_refusals", "Script requests told to come again.", registry=self.registry)
        self._gate_in_use = Gauge("picloud_gate_in_use", "Script requests in progress.", registry=self.registry)

    def _http_metrics(self) -> None:
        labels = ["plane", "status_class"]
        responses = Counter("picloud_http_requests", "HTTP requests answered.", labels, registry=self.registry)
        self._responses_of = cache(responses.labels)
        response_s = Histogram("picloud_http_request_seconds", "Duration of HTTP requests.", ["plane"], buckets=_RUN_S, registry=self.registry)
        self._response_s_of = cache(response_s.labels)

    def _outbound_metrics(self) -> None:
        calls = Counter("picloud_outbound_calls", "HTTP calls of scripts.", ["outcome"], registry=self.registry)
        self._calls_of = cache(calls.labels)
        self._call_s = Histogram("picloud_outbound_call_seconds", "Duration of HTTP calls of scripts.", buckets=_RUN_S, registry=self.registry)

    def _outbox_metrics(self) -> None:
        self._database_up = Gauge("picloud_database_up", "Whether the database answered this scrape.", registry=self.registry)
        self._outbox_depth = Gauge("picloud_outbox_depth", "Rows in the outbox.", registry=self.registry)
        self._outbox_due = Gauge("picloud_outbox_due", "Rows that are due and not claimed.", registry=self.registry)
        self._outbox_age_s = Gauge("picloud_outbox_age_seconds", "How long the oldest of these has been due.", registry=self.registry)

    def _follower_metrics(self) -> None:
        labels = ["projection"]
        self._follow_lag = Gauge("picloud_projection_lag_events", "Events that a followed read model has still to apply.", labels, registry=self.registry)
        self._followed = Counter("picloud_projection_events", "Events that this process has applied to a followed read model.", labels, registry=self.registry)
        self._follow_failures = Counter(
            "picloud_projection_failures", "Times that events could not be applied to a followed read model.", labels, registry=self.registry
        )


class MeteredAppender:
    """The `Appender` port, timed."""

    def __init__(self, appender: Appender, metrics: Metrics) -> None:
        self._appender = appender
        self._metrics = metrics

    async def append(self, unit: Unit) -> tuple[Recorded, ...]:
        """See `Appender.append`."""
        started = perf_counter()
        accepted = False
        try:
            events = await self._appender.append(unit)
            accepted = True
        finally:
            self._metrics.appended(perf_counter() - started, accepted=accepted)
        return events
