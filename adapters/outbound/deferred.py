"""The client with its library, loaded when the first call is made: that takes a quarter of a second, which no start should wait for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final
from uuid import UUID

import anyio
import anyio.to_thread

from domain.outbound import HttpAnswer, HttpCall, Outbound

_CLIENT: Final = "adapters.outbound.client"


class DeferredClient:
    """Implements `domain.outbound.Outbound` by the client that `make` makes once its module is loaded."""

    def __init__(self, make: Callable[[], Outbound]) -> None:
        self._make = make
        self._client: Outbound | None = None
        self._loading = anyio.Lock()

    async def call(self, app_id: UUID, call: HttpCall) -> HttpAnswer:
        """See `Outbound.call`."""
        client = self._client or await self._load()
        return await client.call(app_id, call)

    async def _load(self) -> Outbound:
        async with self._loading:
            if self._client is None:
                await anyio.to_thread.run_sync(import_module, _CLIENT)
                self._client = self._make()
            return self._client
