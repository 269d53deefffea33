"""What is counted of live projections."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class LiveMetrics:
    """Shown by `/metrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._subscribers = Gauge("picloud_live_subscribers", "Subscribers of live projections now.", registry=registry)
        self._lag = Gauge("picloud_live_lag_positions", "Positions that the feed furthest behind has still to read.", registry=registry)
        self._frames = Counter("picloud_live_frames", "Events encoded for subscribers.", registry=registry)
        self._deliveries = Counter("picloud_live_deliveries", "Events handed to subscribers.", registry=registry)
        self._fallbacks = Counter("picloud_live_fallbacks", "Subscribers that were too slow for the live feed and went on from the log.", registry=registry)
        refusals = Counter("picloud_live_refusals", "Subscribers refused because there were too many, by what.", ["limit"], registry=registry)
        self._refusals = {limit: refusals.labels(limit) for limit in ("process", "app", "address")}

    def watch(self, *, subscribers: Callable[[], float], lag: Callable[[], float]) -> None:
        """Ask these at each scrape."""
        self._subscribers.set_function(subscribers)
        self._lag.set_function(lag)

    def encoded(self, frames: int) -> None:
        """Events became frames."""
        self._frames.inc(frames)

    def delivered(self, frames: int) -> None:
        """A subscriber has taken frames."""
        self._deliveries.inc(frames)

    def fell_back(self) -> None:
        """A subscriber fell out of the live feed."""
        self._fallbacks.inc()

    def refused(self, limit: str) -> None:
        """A subscriber too many: of the `process`, the `app` or the `address`."""
        self._refusals[limit].inc()
