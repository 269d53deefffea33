"""`/apps/{app}/settings` and `/settings`: what apps and the instance are set to. Each change is an event in the log that it is about."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Router, get, patch
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from domain.app_settings import AppSettings, InstanceSettings, KeyLimits
from domain.authz import Capability
from domain.bounds import Bounds, Bytes, Count, Quotas, RateLimits, effective
from domain.cors import Cors, Names
from projections.settings.reads import Stored
from web.admin.call import AdminCall, Call
from web.admin.needs import needs
from web.admin.parameters import Segment
from web.admin.services import settings_of


class CorsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pages of other origins may read the app's answers; see `Cors`. Lists are replaced as a whole."""

    origins: Names | UnsetType | None = UNSET
    methods: Names | UnsetType | None = UNSET
    headers: Names | UnsetType | None = UNSET
    expose: Names | UnsetType | None = UNSET
    credentials: bool | UnsetType | None = UNSET
    max_age_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] | UnsetType | None = UNSET


class LimitsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates of requests."""

    requests_per_minute: Count | UnsetType | None = UNSET
    requests_per_minute_per_key: Count | UnsetType | None = UNSET


class QuotasPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be used up in a day (UTC), and stored."""

    requests_per_day: Count | UnsetType | None = UNSET
    executions_per_day: Count | UnsetType | None = UNSET
    events_per_day: Count | UnsetType | None = UNSET
    storage_bytes: Bytes | UnsetType | None = UNSET


class BoundsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both."""

    limits: LimitsPatch | UnsetType | None = UNSET
    quotas: QuotasPatch | UnsetType | None = UNSET


class AppSettingsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of an app's settings: what is absent stays, what is null becomes the default again."""

    cors: CorsPatch | UnsetType | None = UNSET
    limits: LimitsPatch | UnsetType | None = UNSET
    quotas: QuotasPatch | UnsetType | None = UNSET
    server_timing: bool | UnsetType | None = UNSET


class KeyLimitsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast an API key may call the admin API."""

    requests_per_minute_per_key: Count | UnsetType | None = UNSET


class InstanceSettingsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge patch (RFC 7396) of the instance's settings."""

    defaults: BoundsPatch | UnsetType | None = UNSET
    ceilings: BoundsPatch | UnsetType | None = UNSET
    control_plane: KeyLimitsPatch | UnsetType | None = UNSET


class AppSettingsState(msgspec.Struct, frozen=True, kw_only=True):
    """An app's settings. `effective` are the bounds that hold: its own, or the instance's defaults, below the instance's ceilings."""

    cors: Cors
    limits: RateLimits
    quotas: Quotas
    server_timing: bool
    effective: Bounds
    version: int
    updated_at: datetime | None


class InstanceSettingsState(msgspec.Struct, frozen=True, kw_only=True):
    """The instance's settings."""

    defaults: Bounds
    ceilings: Bounds
    control_plane: KeyLimits
    version: int
    updated_at: datetime | None


@get("/apps/{app:str}/settings", opt=needs(Capability.APPS_READ))
async def read_app_settings(call: Call, app: Segment) -> AppSettingsState:
    """What an app is set to."""
    found = await call.app(app)
    return await _app_state(call, await settings_of(call).app(found.app_id))


@patch("/apps/{app:str}/settings", opt=needs(Capability.APPS_MANAGE))
async def change_app_settings(call: Call, app: Segment, data: JSONBody[AppSettingsPatch]) -> AppSettingsState:
    """Change what an app is set to. 422 `above_ceiling` for a bound that is above the instance's ceiling."""
    found = await call.app(app)
    return await _app_state(call, await settings_of(call).change_app(found.app_id, _plain(data), call.acting))


@get("/settings", opt=needs(Capability.INSTANCE_SETTINGS))
async def read_instance_settings(call: Call) -> InstanceSettingsState:
    """What the instance is set to."""
    return _instance_state(await settings_of(call).instance())


@patch("/settings", opt=needs(Capability.INSTANCE_SETTINGS))
async def change_instance_settings(call: Call, data: JSONBody[InstanceSettingsPatch]) -> InstanceSettingsState:
    """Change what the instance is set to. Ceilings hold at once, also for apps that have set more before."""
    return _instance_state(await settings_of(call).change_instance(_plain(data), call.acting))


def _plain(data: Any) -> Any:
    """The patch as it was sent: what was absent is."""
    return msgspec.to_builtins(data)


async def _app_state(call: AdminCall, stored: Stored[AppSettings]) -> AppSettingsState:
    settings, instance = stored.settings, (await settings_of(call).instance()).settings
    return AppSettingsState(
        cors=settings.cors,
        limits=settings.limits,
        quotas=settings.quotas,
        server_timing=settings.server_timing,
        effective=effective(settings.bounds, instance.defaults, instance.ceilings),
        version=stored.version,
        updated_at=stored.updated_at,
    )


def _instance_state(stored: Stored[InstanceSettings]) -> InstanceSettingsState:
    settings = stored.settings
    return InstanceSettingsState(
        defaults=settings.defaults,
        ceilings=settings.ceilings,
        control_plane=settings.control_plane,
        version=stored.version,
        updated_at=stored.updated_at,
    )


router: Final = Router(
    path="/",
    route_handlers=[read_app_settings, change_app_settings, read_instance_settings, change_instance_settings],
    tags=["settings"],
)
