"""What the sandbox tests share: a host that answers from a dict, and jobs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from domain.sandbox import LATER, Call, Job, Limits, RunResult, Sandbox, Source

APP = UUID(int=1)
OTHER_APP = UUID(int=2)
CLOCK = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)

Answer = Callable[[Call], Awaitable[Any]]


class KvHost:
    """Answers `kv_get` and `kv_list` from `data` {(collection, key): (JSON text, version)}, and other calls from keywords; `parked` are slow ones."""

    def __init__(self, data: dict[tuple[str, str], tuple[str, int]] | None = None, *, parked: dict[str, Answer] | None = None, **others: Answer) -> None:
        self.data = data or {}
        self.at_hand: set[str] = set()
        self.calls: list[Call] = []
        self._slow = parked or {}
        self._others = {**others, **self._slow}

    def is_slow(self, name: str) -> bool:
        return name in self._slow

    def parked(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def answer_now(self, call: Call) -> Any:
        """`kv_get` is answered in the sandbox's thread when it is in `at_hand`."""
        if call.name not in self.at_hand:
            return LATER
        self.calls.append(call)
        return self._get(*call.args)

    async def call(self, call: Call) -> Any:
        self.calls.append(call)
        if call.name in self._others:
            return await self._others[call.name](call)
        if call.name == "kv_get":
            return self._get(*call.args)
        if call.name == "kv_list":
            return self._list(*call.args)
        raise PermissionError(f"{call.name}: there is no such call")

    def _get(self, collection: str, key: str) -> dict[str, Any] | None:
        found = self.data.get((collection, key))
        return None if found is None else {"value": found[0], "version": found[1], "updated_at": "2026-01-01T00:00:00.000000Z"}

    def _list(self, collection: str, prefix: str, limit: int, cursor: str | None, overlay: dict[str, list[Any]]) -> dict[str, Any]:
        entries = {key: entry for (held, key), entry in self.data.items() if held == collection}
        for key, change in overlay.items():
            text, version = entries.pop(key, ("0", 0))
            if change[0] == "set":
                entries[key] = (change[1], version + 1)
            elif change[0] == "add":
                entries[key] = (json.dumps(json.loads(text) + change[1]), version + 1)
        keys = sorted(key for key in entries if key.startswith(prefix) and key > (cursor or ""))
        items = [{"key": key, "value": entries[key][0], "version": entries[key][1], "updated_at": "2026-01-01T00:00:00.000000Z"} for key in keys[:limit]]
        return {"items": items, "next_cursor": keys[limit - 1] if len(keys) > limit else None}


def job(source: str, *, ctx: dict[str, Any] | None = None, app_id: UUID = APP, timeout_s: float = 5.0, limits: Limits | None = None, **modules: str) -> Job:
    """A run of `source`; keywords are modules in load order."""
    return Job(
        app_id=app_id,
        script=Source("main", source),
        modules=tuple(Source(name, text) for name, text in modules.items()),
        ctx=ctx or {"execution_id": "e1"},
        clock=CLOCK,
        seed="seed",
        timeout_s=timeout_s,
        limits=limits or Limits(),
    )


def handler(*lines: str) -> str:
    """A script whose handler has these lines."""
    return "\n".join(("def handler(ctx):", *(f"    {line}" for line in lines)))


async def answer(sandbox: Sandbox, *lines: str, host: KvHost | None = None) -> Any:
    """What a handler of these lines returns, as JSON."""
    result = await sandbox.run(job(handler(*lines)), host or KvHost())
    return returned(result)


def returned(result: RunResult) -> Any:
    """The JSON body of a run that must have returned."""
    assert result.ending == "returned", result
    assert result.reply is not None
    return json.loads(result.reply.body) if result.reply.body else None
