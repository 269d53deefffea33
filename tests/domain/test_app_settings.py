from __future__ import annotations

from typing import Any

import pytest

from domain.app_settings import AppSettings, InstanceSettings, check_app_settings, check_instance_settings
from domain.bounds import UNBOUNDED, Bounds, Quotas, RateLimits, effective
from domain.cors import Cors, check_cors
from domain.errors import Invalid


def quotas(**chosen: int) -> Bounds:
    return Bounds(quotas=Quotas(**chosen))


@pytest.mark.parametrize(
    ("own", "default", "ceiling", "holds"),
    [(None, None, None, None), (5, None, None, 5), (None, 7, None, 7), (5, 7, None, 5), (9, 7, None, 9), (None, None, 3, 3), (None, 7, 3, 3), (5, None, 3, 3)],
)
def test_what_holds_is_the_apps_own_or_the_default_below_the_ceiling(own: Any, default: Any, ceiling: Any, holds: Any) -> None:
    found = effective(*(Bounds(limits=RateLimits(requests_per_minute=value)) for value in (own, default, ceiling)))
    assert found.limits.requests_per_minute == holds
    assert (found is UNBOUNDED) is (holds is None)


def test_what_is_above_a_ceiling_is_refused_by_name() -> None:
    with pytest.raises(Invalid) as refused:
        check_app_settings(AppSettings(quotas=Quotas(storage_bytes=11, events_per_day=1)), quotas(storage_bytes=10, events_per_day=1), AppSettings())
    assert (refused.value.code, refused.value.field, refused.value.extra) == ("above_ceiling", "$.quotas.storage_bytes", {"requested": 11, "ceiling": 10})
    with pytest.raises(Invalid) as refused:
        check_instance_settings(InstanceSettings(defaults=quotas(requests_per_day=2), ceilings=quotas(requests_per_day=1)))
    assert refused.value.field == "$.defaults.quotas.requests_per_day"


def test_what_was_above_a_ceiling_before_it_was_lowered_may_stay() -> None:
    before = AppSettings(quotas=Quotas(storage_bytes=11))
    after = AppSettings(quotas=Quotas(storage_bytes=11, events_per_day=1))
    assert check_app_settings(after, quotas(storage_bytes=10), before) == after


def test_cors_is_kept_as_browsers_send_it() -> None:
    origins = ("HTTPS://Shop.Example:443", "https://shop.example", "http://localhost:5173", "http://[::1]:80")
    cors = Cors(origins=origins, methods=("get", "GET"), headers=("X-Mine",))
    checked = check_cors(cors)
    assert checked.origins == ("https://shop.example", "http://localhost:5173", "http://[::1]")
    assert (checked.methods, checked.headers) == (("GET",), ("x-mine",))
    assert check_cors(checked) == checked


BAD_CORS: list[tuple[dict[str, Any], str]] = [
    ({"origins": ("https://shop.example/",)}, "$.cors.origins[0]"),
    ({"origins": ("https://a", "null")}, "$.cors.origins[1]"),
    ({"origins": ("https://*.shop.example",)}, "$.cors.origins[0]"),
    ({"origins": ("https://a:99999",)}, "$.cors.origins[0]"),
    ({"origins": ("https://a\r\nx: y",)}, "$.cors.origins[0]"),
    ({"origins": ("https://user@a",)}, "$.cors.origins[0]"),
    ({"methods": ("GET", "TRACE")}, "$.cors.methods[1]"),
    ({"methods": ("*",)}, "$.cors.methods[0]"),
    ({"headers": ("a b",)}, "$.cors.headers[0]"),
    ({"expose": ("a\nb",)}, "$.cors.expose[0]"),
    ({"origins": ("*",), "credentials": True}, "$.cors.credentials"),
    ({"origins": ("https://a",), "expose": ("*",), "credentials": True}, "$.cors.expose"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_CORS)
def test_cors_that_no_browser_could_follow_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_cors(Cors(**fields))
    assert refused.value.field == field
