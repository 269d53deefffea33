"""What this process knows of hosts, scripts, routes, triggers and settings, and how a change of them reaches every process before its author is answered.

Views are read whole and dropped when an event that touches them passes: our own commits at once, those of other processes when the tail sees them.
Having dropped what it knew, a process acknowledges the position in `worker_tails`; `passed` waits for that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import anyio
import structlog

from domain.app_settings import AppSettingsChanged, InstanceSettings, InstanceSettingsChanged
from domain.apps import AppChanged, AppCreated, AppDeleted, DomainAdded, DomainRemoved
from domain.errors import Unavailable
from domain.events import Event, Recorded
from domain.hosts import DomainTable
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.routes import RouteCreated, RouteDeleted
from domain.scripts import ScriptDeleted, ScriptSaved
from domain.statements import load_sql
from domain.triggers import Trigger, TriggerDeleted, TriggerSaved
from projections.control.views import AppView, read_app, read_hosts
from projections.outbox.claims import read_triggers
from projections.settings.reads import read_instance_settings

_SQL: Final = load_sql("runtime", "directory.sql")
_HOSTS: Final[tuple[type[Event], ...]] = (AppCreated, AppChanged, AppDeleted, DomainAdded, DomainRemoved)
_VIEWS: Final[tuple[type[Event], ...]] = (ScriptSaved, ScriptDeleted, RouteCreated, RouteDeleted, AppSettingsChanged)
_TRIGGERS: Final[tuple[type[Event], ...]] = (TriggerSaved, TriggerDeleted)
_INSTANCE: Final[tuple[type[Event], ...]] = (InstanceSettingsChanged,)
_TOPICS: Final = [event.TOPIC for event in (*_HOSTS, *_VIEWS, *_TRIGGERS, *_INSTANCE)]
_PASS_WITHIN_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.02
_RETRY_S: Final = 0.2
_VIEWS_KEPT: Final = 1024
_TRIGGERS_KEPT: Final = 4096

log = structlog.get_logger(__name__)


class Directory:
    """The views of this process. `changed` is called with each commit of this process, `moved` with each head that another one has moved."""

    def __init__(self, reader: Reader, worker_id: UUID, dead_after_s: float) -> None:
        self._reader = reader
        self._worker_id = worker_id
        self._dead_after_s = dead_after_s
        self._hosts: DomainTable | None = None
        self._instance: InstanceSettings | None = None
        self._views: dict[UUID, AppView] = {}
        self._triggers: dict[tuple[UUID, UUID], Trigger] = {}
        self._generation = 0
        self._followed: dict[UUID, int] = {}
        self._moves: dict[UUID, int] = {}
        self._moved = anyio.Event()

    async def app_of_host(self, host: str) -> UUID | None:
        """The app that answers for a canonical host."""
        return (await self.hosts()).match(host)

    async def hosts(self) -> DomainTable:
        """Whose which host is, never older than the last change that this process has seen."""
        while self._hosts is None:
            generation = self._generation
            await self._set_baseline(NIL_APP)
            hosts = await read_hosts(self._reader)
            if generation == self._generation:
                self._hosts = hosts
        return self._hosts

    async def instance(self) -> InstanceSettings:
        """The instance's settings."""
        while self._instance is None:
            generation = self._generation
            await self._set_baseline(NIL_APP)
            instance = (await read_instance_settings(self._reader)).settings
            if generation == self._generation:
                self._instance = instance
        return self._instance

    async def view(self, app_id: UUID) -> AppView:
        """The app's scripts, routes and settings, never older than the last change that this process has seen."""
        while True:
            view = self._views.get(app_id)
            if view is not None:
                return view
            instance = await self.instance()
            generation = self._generation
            await self._set_baseline(app_id)
            view = await read_app(self._reader, app_id, instance)
            if generation == self._generation:
                if len(self._views) >= _VIEWS_KEPT:
                    del self._views[next(iter(self._views))]
                self._views[app_id] = view

    def trigger(self, app_id: UUID, trigger_id: UUID) -> Trigger | None:
        """A trigger, if it is known here; never older than the last change that this process has seen."""
        return self._triggers.get((app_id, trigger_id))

    async def triggers(self, wanted: Collection[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], Trigger]:
        """Triggers by app and id; deleted ones are missing."""
        while unknown := [key for key in wanted if key not in self._triggers]:
            generation = self._generation
            for app_id in {app_id for app_id, _ in unknown}:
                await self._set_baseline(app_id)
            found = await read_triggers(self._reader, unknown)
            if generation == self._generation:
                if len(self._triggers) >= _TRIGGERS_KEPT:
                    self._triggers.clear()
                self._triggers.update(found)
                return found | {key: self._triggers[key] for key in wanted if key in self._triggers}
        return {key: self._triggers[key] for key in wanted}

    def changed(self, events: Sequence[Recorded]) -> None:
        """Forget what these events have made stale."""
        for recorded in events:
            if isinstance(recorded.event, _VIEWS):
                self._forget(recorded.app_id)
            elif isinstance(recorded.event, _TRIGGERS):
                self._forget_triggers(recorded.app_id)
            elif isinstance(recorded.event, _HOSTS):
                self._forget(NIL_APP)
            elif isinstance(recorded.event, _INSTANCE):
                self._forget_instance()

    def moved(self, app_id: UUID, position: int) -> None:
        """Another process has appended to an app; `run` looks at what."""
        self._moves[app_id] = max(self._moves.get(app_id, 0), position)
        self._moved.set()

    async def run(self) -> None:
        """Follow other processes' changes until cancelled."""
        while True:
            await self._moved.wait()
            self._moved = anyio.Event()
            moves, self._moves = self._moves, {}
            for app_id, position in moves.items():
                await self._follow(app_id, position)

    async def passed(self, app_id: UUID, position: int, recorded_at: datetime) -> None:
        """Return when every live process has passed a change, or after a second.

        Whoever is slower than that is told the truth by the database when it looks.
        """
        with anyio.move_on_after(_PASS_WITHIN_S):
            while await self._behind(app_id, position, recorded_at):  # noqa: ASYNC110  # other processes tell the database, not us
                await anyio.sleep(_LOOK_EVERY_S)

    async def _behind(self, app_id: UUID, position: int, recorded_at: datetime) -> bool:
        rows = await self._reader.fetch(_SQL["behind"], app_id, position, self._worker_id, self._dead_after_s, recorded_at)
        return bool(rows[0]["behind"])

    async def _follow(self, app_id: UUID, position: int) -> None:
        """Drop views if something between the last look and `position` touches them, then acknowledge it."""
        after = self._followed.get(app_id)
        try:
            if after is None:
                # Nothing of this app was ever read here, so nothing can be stale.
                changed = position
            else:
                rows = await self._reader.fetch(_SQL["control_between"], app_id, after, position, _TOPICS)
                changed = rows[0]["position"]
            if changed is not None:
                self._forget(app_id)
                self._forget_triggers(app_id)
                if app_id == NIL_APP:
                    self._forget_instance()
                # Not `changed`: whoever waits does so for the end of a unit, whose last event may be none of those that are looked for.
                await self._reader.fetch(_SQL["acknowledge"], self._worker_id, app_id, position)
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.exception("change_not_followed", app_id=str(app_id), position=position)
            self.moved(app_id, position)
            await anyio.sleep(_RETRY_S)
            return
        self._followed[app_id] = max(after or 0, position)

    async def _set_baseline(self, app_id: UUID) -> None:
        """Before an app is first read: whatever comes after its head of now must be looked at."""
        if app_id not in self._followed:
            rows = await self._reader.fetch(_SQL["head"], app_id)
            self._followed.setdefault(app_id, rows[0]["position"] if rows else 0)

    def _forget(self, app_id: UUID) -> None:
        self._generation += 1
        if app_id == NIL_APP:
            self._hosts = None
        else:
            self._views.pop(app_id, None)

    def _forget_instance(self) -> None:
        """Every view has the bounds in it that follow from these settings."""
        self._generation += 1
        self._instance = None
        self._views.clear()

    def _forget_triggers(self, app_id: UUID) -> None:
        self._generation += 1
        self._triggers = {key: trigger for key, trigger in self._triggers.items() if key[0] != app_id}
