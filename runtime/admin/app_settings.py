"""Changing settings, of apps and of the instance. Each change is the whole of what is set after it."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

import msgspec

from domain.app_settings import (
    SETTINGS,
    AppSettings,
    AppSettingsChanged,
    InstanceSettings,
    InstanceSettingsChanged,
    check_app_settings,
    check_instance_settings,
)
from domain.docs.merge_patch import merge_patch
from domain.events import Event
from domain.ids import NIL_APP
from domain.ports import Reader
from domain.units import ABSENT, Change, Record
from projections.settings.reads import Stored, read_app_settings, read_instance_settings
from runtime.admin.writing import Acting, AdminWriter, retried

T = TypeVar("T", AppSettings, InstanceSettings)


class SettingsOf:
    """The settings of apps, and the instance's."""

    def __init__(self, reader: Reader, writer: AdminWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def app(self, app_id: UUID) -> Stored[AppSettings]:
        """An app's."""
        return await read_app_settings(self._reader, app_id)

    async def instance(self) -> Stored[InstanceSettings]:
        """The instance's."""
        return await read_instance_settings(self._reader)

    async def change_app(self, app_id: UUID, patch: Any, acting: Acting) -> Stored[AppSettings]:
        """Merge a patch into an app's (RFC 7396); what is null becomes the default again. Raises Invalid, also for what is above a ceiling."""

        async def attempt() -> Stored[AppSettings]:
            now, instance = await self.app(app_id), await self.instance()
            settings = check_app_settings(_merged(now.settings, patch), instance.settings.ceilings, now.settings)
            return await self._save(app_id, now, settings, AppSettingsChanged(settings=settings), acting)

        return await retried(attempt)

    async def change_instance(self, patch: Any, acting: Acting) -> Stored[InstanceSettings]:
        """As `change_app`. A ceiling holds at once, also for apps that have set more before."""

        async def attempt() -> Stored[InstanceSettings]:
            now = await self.instance()
            settings = check_instance_settings(_merged(now.settings, patch))
            return await self._save(NIL_APP, now, settings, InstanceSettingsChanged(settings=settings), acting)

        return await retried(attempt)

    async def _save(self, app_id: UUID, now: Stored[T], settings: T, event: Event, acting: Acting) -> Stored[T]:
        if settings == now.settings:
            return now
        change = Change(Record(name=SETTINGS, event=event), now.version or ABSENT)
        events = await self._writer.publish(app_id, acting, [change])
        return Stored(settings=settings, version=events[-1].version, updated_at=events[-1].recorded_at)


def _merged(settings: T, patch: Any) -> T:
    merged = merge_patch(msgspec.to_builtins(settings), patch)
    return msgspec.convert(merged, type(settings), strict=True)
