"""Outbound HTTP on aiohttp, for scripts that nobody trusts: no call reaches an address that was not checked."""

from __future__ import annotations

from adapters.outbound.deferred import DeferredClient
from adapters.outbound.policy import Policy

__all__ = ["DeferredClient", "Policy"]
