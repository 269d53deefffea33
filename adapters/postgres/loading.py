"""What a batch must know before it can be judged: heads and streams, repeated idempotency keys, fences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from adapters.postgres.lane import Lane, head_from
from adapters.postgres.pending import Pending
from adapters.postgres.rows import recorded_from
from adapters.postgres.states import MAX_STREAM_BYTES, AppStates, StateCache
from domain.events import Event, Recorded
from domain.judge import Head
from domain.statements import load_sql
from domain.units import EMPTY_STREAM, Fence, Stream

_SQL: Final = load_sql("adapters.postgres", "log.sql")
_ABSENT_BEFORE_GUESSING: Final = 64
_ANY_STREAM: Final = ""
_MOST_READ_TOO: Final = 256
"""Streams of which the version is enough and whose last events are read all the same, because they may be asked for next."""

Repeated = dict[tuple[UUID, str], tuple[Recorded, ...]]


class LoadedApp(msgspec.Struct, eq=False):
    """One app's head and the streams that a batch needs, true at that head. `is_fresh`: the head was read for this batch. `guessed`: taken for empty.

    Of a stream that is not `whole`, the last event may be missing.
    """

    states: AppStates
    names: set[str] = msgspec.field(default_factory=set)
    whole: set[str] = msgspec.field(default_factory=set)
    streams: dict[str, Stream] = {}
    guessed: set[str] = msgspec.field(default_factory=set)
    is_fresh: bool = False

    @property
    def head(self) -> Head:
        """The head at which the streams are true."""
        if self.states.head is None:
            msg = "an app was judged without its head"
            raise LookupError(msg)
        return self.states.head


class Loaded(msgspec.Struct, eq=False):
    """What a batch needs; `at` is the server's time when something was read."""

    apps: dict[UUID, LoadedApp]
    repeated: Repeated
    at: datetime | None = None

    def guesses_hold(self, events: Iterable[Recorded]) -> bool:
        """Whether the batch begins every stream that was taken for empty: then its insert is the proof, because it fails where there is one."""
        guessed = sum([len(app.guessed) for app in self.apps.values()])
        return not guessed or guessed == sum(recorded.version == 1 and recorded.stream in self.apps[recorded.app_id].guessed for recorded in events)


class Loading:
    """Reads what the cache does not know."""

    def __init__(self, cache: StateCache, decode: Callable[[str, bytes], Event]) -> None:
        self._cache = cache
        self._decode = decode
        self._absent_in_a_row = 0

    async def load(self, lane: Lane, pending: Sequence[Pending], *, may_guess: bool) -> Loaded:
        """Heads, streams and repeated keys of a batch. Streams that are not known are taken for empty when nearly all such have been of late, and may be."""
        loaded = Loaded({}, {})
        keys: set[tuple[UUID, str]] = set()
        app_id, app = None, None
        for item in pending:
            unit = item.unit
            if app is None or unit.app_id is not app_id:
                app_id, app = unit.app_id, self._app(loaded, unit.app_id)
            app.names |= item.streams
            app.whole |= item.whole
            if unit.idempotency_key is not None:
                keys.add((unit.app_id, unit.idempotency_key))
        may_guess = may_guess and self._absent_in_a_row >= _ABSENT_BEFORE_GUESSING and all(item.may_be_new for item in pending)
        while missing := self._take_known(loaded, may_guess=may_guess):
            await self._read(lane, missing, loaded)
        if keys:  # after the streams: a repetition of what was committed in between is recognised, not refused for what it did itself
            loaded.repeated = await self._repeated(lane, keys)
        return loaded

    def guessed_wrong(self) -> None:
        """A stream that was taken for empty is not."""
        self._absent_in_a_row = 0

    async def still_at_head(self, lane: Lane, app_ids: Sequence[UUID]) -> bool:
        """Whether these apps' heads are where we know them; forgets those that are not."""
        heads = {row["app_id"]: head_from(row) for row in await lane.fetch(_SQL["heads"], app_ids)}
        moved = [states for app_id in app_ids if (states := self._cache.app(app_id)).head != heads.get(app_id)]
        for states in moved:
            states.forget()
        return not moved

    async def held_fences(self, lane: Lane, fences: Sequence[tuple[UUID, Fence]]) -> set[Fence]:
        """Those of these fences that hold."""
        columns = ([app_id for app_id, _ in fences], [fence.execution_id for _, fence in fences], [fence.token for _, fence in fences])
        return {Fence(row["id"], row["fence"]) for row in await lane.fetch(_SQL["held_fences"], *columns)}

    def _app(self, loaded: Loaded, app_id: UUID) -> LoadedApp:
        app = loaded.apps.get(app_id)
        if app is None:
            app = loaded.apps[app_id] = LoadedApp(self._cache.app(app_id))
        return app

    def _take_known(self, loaded: Loaded, *, may_guess: bool) -> list[tuple[UUID, str]]:
        """Take what the cache knows; what is left must be read."""
        missing: list[tuple[UUID, str]] = []
        for app_id, app in loaded.apps.items():
            unknown = []
            for name in app.names - app.streams.keys():
                stream = app.states.get(name)
                if stream is None:
                    unknown.append(name)
                else:
                    app.streams[name] = stream
            if app.states.head is None:
                unknown = unknown or [_ANY_STREAM]
            elif may_guess:
                app.streams.update(dict.fromkeys(unknown, EMPTY_STREAM))
                app.guessed.update(unknown)
                continue
            missing.extend((app_id, name) for name in unknown)
        return missing

    async def _read(self, lane: Lane, missing: list[tuple[UUID, str]], loaded: Loaded) -> None:
        """Read streams with their heads. An app whose head has moved loses what was known of it, and is read again as a whole."""
        whole = [name in loaded.apps[app_id].whole for app_id, name in missing]
        # However much somebody has read: all of it at once would hold everybody up, if there is room for it.
        most = MAX_STREAM_BYTES if len(missing) - sum(whole) <= _MOST_READ_TOO else 0
        rows = await lane.fetch(_SQL["load_streams"], [app_id for app_id, _ in missing], [name for _, name in missing], whole, most)
        if len(rows) < len(missing):
            await lane.fetch(_SQL["ensure_heads"], sorted({app_id for app_id, _ in missing}))
            return
        loaded.at = rows[0]["now"]
        moved: set[UUID] = set()
        for row in rows:
            app = loaded.apps[row["app_id"]]
            if row["app_id"] in moved:
                continue
            if app.states.meet(head_from(row)) and app.streams:
                moved.add(row["app_id"])
                app.states.forget()
                app.streams = {}
                continue
            app.is_fresh = True
            if row["stream"] != _ANY_STREAM:
                app.streams[row["stream"]] = self._stream(app.states, row)

    def _stream(self, states: AppStates, row: Any) -> Stream:
        if row["topic"] is None:
            stream, size = EMPTY_STREAM, 0
            self._absent_in_a_row += 1
        elif row["state"] is None:
            self._absent_in_a_row = 0
            return Stream(row["originator_version"])
        else:
            stream = Stream(row["originator_version"], self._decode(row["topic"], row["state"]), row["recorded_at"])
            size = len(row["state"])
            self._absent_in_a_row = 0
        self._cache.remember(states, row["stream"], stream, size)
        return stream

    async def _repeated(self, lane: Lane, keys: Collection[tuple[UUID, str]]) -> Repeated:
        found: defaultdict[tuple[UUID, str], list[Recorded]] = defaultdict(list)
        for row in await lane.fetch(_SQL["find_unit_keys"], [app_id for app_id, _ in keys], [key for _, key in keys]):
            found[row["app_id"], row["key"]].append(recorded_from(row, row["app_id"], self._decode))
        return {key: tuple(events) for key, events in found.items()}
