"""Settings of apps, each in its own log, and of the instance, in the nil log: whoever may read a log sees who has changed what."""

from __future__ import annotations

from typing import Final

import msgspec

from domain.aggregates import Aggregate, always
from domain.bounds import Bounds, Count, Quotas, RateLimits, check_below
from domain.cors import Cors, check_cors
from domain.events import Event

SETTINGS: Final = "settings"
"""The stream of settings, in every log."""


class AppSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an app's people decide. `server_timing` shows every caller how long the parts of an answer took; people with a role in the app see it anyway."""

    cors: Cors = Cors()
    limits: RateLimits = RateLimits()
    quotas: Quotas = Quotas()
    server_timing: bool = False

    @property
    def bounds(self) -> Bounds:
        """What it asks to be bounded by."""
        return Bounds(limits=self.limits, quotas=self.quotas)


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast an API key may call the control plane."""

    requests_per_minute_per_key: Count | None = 6000


class InstanceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What owners decide: `defaults` hold for apps that say nothing, `ceilings` for all apps, `control_plane` for the admin API."""

    defaults: Bounds = Bounds()
    ceilings: Bounds = Bounds()
    control_plane: KeyLimits = KeyLimits()


class AppSettingsChanged(Event, frozen=True, kw_only=True):
    """An app's settings are these from here on."""

    TOPIC = "settings.AppSettingsChanged"
    settings: AppSettings


class InstanceSettingsChanged(Event, frozen=True, kw_only=True):
    """The instance's settings are these from here on."""

    TOPIC = "settings.InstanceSettingsChanged"
    settings: InstanceSettings


def check_app_settings(settings: AppSettings, ceilings: Bounds, before: AppSettings) -> AppSettings:
    """The settings in canonical form. Raises Invalid naming the field, also for what is newly above the instance's ceilings."""
    check_below(settings.bounds, ceilings, before.bounds)
    return msgspec.structs.replace(settings, cors=check_cors(settings.cors))


def check_instance_settings(settings: InstanceSettings) -> InstanceSettings:
    """Raise Invalid for a default that is above its ceiling."""
    check_below(settings.defaults, settings.ceilings, field="$.defaults")
    return settings


AGGREGATES: Final = (Aggregate(kind=SETTINGS, events=(AppSettingsChanged, InstanceSettingsChanged), deciders={}, exists=always),)
