"""docs/limits.md: the settings that it shows are settings."""

from __future__ import annotations

import re

import msgspec

from domain.app_settings import AppSettings, InstanceSettings, check_app_settings, check_instance_settings
from tests.served import ROOT
from web.headers import API

PAGE = (ROOT / "docs/limits.md").read_text()


def test_the_settings_that_are_shown_can_be_set() -> None:
    app, instance = (msgspec.json.decode(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    ceilings = check_instance_settings(msgspec.convert(instance, InstanceSettings)).ceilings
    settings = msgspec.convert(app, AppSettings)
    assert check_app_settings(settings, ceilings, AppSettings()) == settings


def test_the_headers_that_are_shown_are_sent() -> None:
    shown = {name.lower(): value for name, value in re.findall(r"`([A-Z][A-Za-z-]+): ([^`]+)`", PAGE)}
    for name, value in API:
        if name != b"referrer-policy":  # which the dashboard's line has, too
            assert shown[name.decode()] == value.decode()
    assert f"Referrer-Policy: {dict(API)[b'referrer-policy'].decode()}" in PAGE
