from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from runtime.environment import Address, Secret
from runtime.settings import VARIABLES, Settings, load_settings, settings_help

SECRET_URL = "postgresql://ada:hush-hush@db.internal/picloud"


def refusal(**env: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        load_settings(env)
    return caught.value


def refused_for(env: dict[str, str]) -> str | None:
    """The variable for which `env` is refused, None when it is not."""
    try:
        load_settings(env)
    except Invalid as error:
        return error.field
    return None


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load_settings({})
    assert settings == Settings()
    assert settings.http.bind == Address("127.0.0.1", 8000)
    assert settings.data_dir == Path(".picloud")
    assert settings.pg.url is None
    assert settings.process.roles == ("web", "reactor", "scheduler")
    assert 1 <= settings.sandbox.slots <= settings.sandbox.warm_workers


def test_reads_every_kind_of_value() -> None:
    settings = load_settings(
        {
            "PICLOUD_BIND": "[::1]:0",
            "PICLOUD_DATA_DIR": "/var/lib/picloud",
            "DATABASE_URL": SECRET_URL,
            "PICLOUD_PUBLIC_BASE_URL": "https://pi.example.com/base",
            "PICLOUD_ADMIN_PASSWORD": "correct horse",
            "PICLOUD_ROLES": "web, reactor",
            "PICLOUD_PG_POOL_MAX": "7",
            "PICLOUD_GATE_WAIT_S": "0.25",
            "PICLOUD_LOG_FORMAT": "json",
        }
    )
    assert settings.http.bind == Address("::1", 0)
    assert str(settings.http.bind) == "[::1]:0"
    assert settings.data_dir == Path("/var/lib/picloud")
    assert settings.pg.url == Secret(SECRET_URL)
    assert settings.http.public_base_url == "https://pi.example.com/base"
    assert settings.admin.password == Secret("correct horse")
    assert settings.process.roles == ("web", "reactor")
    assert settings.pg.pool_max == 7
    assert settings.gate.wait_s == 0.25
    assert settings.log.format == "json"


def test_an_empty_variable_counts_as_absent_and_foreign_ones_are_ignored() -> None:
    assert load_settings({"PICLOUD_PG_POOL_MAX": "", "DATABASE_URL": "", "HOME": "/root", "PICLOUDY": "1"}) == Settings()


def test_secrets_do_not_show() -> None:
    settings = load_settings({"DATABASE_URL": SECRET_URL, "PICLOUD_ADMIN_PASSWORD": "correct horse"})
    for shown in (repr(settings), str(settings), f"{settings.pg.url} {settings.admin.password!r}"):
        assert "hush-hush" not in shown
        assert "correct horse" not in shown
        assert "***" in shown
    assert settings.pg.url is not None
    assert settings.pg.url.value == SECRET_URL


def test_a_malformed_secret_is_refused_without_being_shown() -> None:
    for name, value in (("DATABASE_URL", "mysql://ada:hush-hush@db"), ("PICLOUD_ADMIN_PASSWORD", "hush")):
        error = refusal(**{name: value})
        assert error.field == name
        assert "hush" not in str(error)
        assert error.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PICLOUD_PG_POOL_MAX", "many", "a whole number from 1 to 1000"),
        ("PICLOUD_PG_POOL_MAX", "0", "a whole number from 1 to 1000"),
        ("PICLOUD_PG_POOL_MAX", "1001", "a whole number from 1 to 1000"),
        ("PICLOUD_PG_POOL_MAX", "1.5", "a whole number from 1 to 1000"),
        ("PICLOUD_PG_POOL_MAX", "null", "a whole number from 1 to 1000"),
        ("PICLOUD_GATE_WAIT_S", "nan", "a number of seconds from 0 to 600"),
        ("PICLOUD_GATE_WAIT_S", "inf", "a number of seconds from 0 to 600"),
        ("PICLOUD_MAX_BODY_BYTES", "10MB", "a whole number of bytes from 1024 to 1073741824"),
        ("PICLOUD_LOG_LEVEL", "LOUD", "one of debug, info, warning, error"),
        ("PICLOUD_ROLES", "web,webb", "a comma-separated list of web, reactor, scheduler"),
        ("PICLOUD_ROLES", ",", "a comma-separated list of web, reactor, scheduler"),
        ("PICLOUD_BIND", "8000", "host:port"),
        ("PICLOUD_BIND", ":8000", "host:port"),
        ("PICLOUD_BIND", "::1:8000", "host:port"),
        ("PICLOUD_BIND", "localhost:65536", "host:port"),
        ("PICLOUD_BIND", "localhost:²", "host:port"),
        ("PICLOUD_PUBLIC_BASE_URL", "pi.example.com", "an http or https URL without a trailing slash"),
        ("PICLOUD_PUBLIC_BASE_URL", "https://pi.example.com/", "an http or https URL without a trailing slash"),
        ("PICLOUD_PUBLIC_BASE_URL", "https://pi.example.com\n", "an http or https URL without a trailing slash"),
        ("PICLOUD_PUBLIC_BASE_URL", "null", "an http or https URL without a trailing slash"),
    ],
)
def test_a_malformed_value_is_refused_with_what_was_expected(name: str, value: str, expected: str) -> None:
    error = refusal(**{name: value})
    assert error.field == name
    assert str(error) == f"{name}: expected {expected}, not {value!r}"


@pytest.mark.parametrize("value", ["*", "0.0.0.0/0", "::/0", "proxy.example", "10.0.0.1,*", "10.0.0.1/8"])
def test_proxies_that_would_be_anybody_or_nobody_are_refused(value: str) -> None:
    error = refusal(PICLOUD_TRUSTED_PROXIES=value)
    assert error.field == "PICLOUD_TRUSTED_PROXIES"
    assert "expected addresses or networks" in error.detail
    assert load_settings({"PICLOUD_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}).http.trusted_proxies == ("10.0.0.0/8", "::1")


def test_an_unknown_variable_is_refused_with_the_nearest_known_one() -> None:
    error = refusal(PICLOUD_POOL_MAX="5")
    assert error.field == "PICLOUD_POOL_MAX"
    assert str(error) == "PICLOUD_POOL_MAX is not a setting of PiCloud: did you mean PICLOUD_PG_POOL_MAX?"
    assert "picloud serve --help" in str(refusal(PICLOUD_QQQQQQQQQQQQQQQ="5"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PICLOUD_BLOB_URL", "s3://id:secret@bucket"),
        ("PICLOUD_BLOB_URL", "file:///secret"),
        ("PICLOUD_BLOB_URL", "s3://"),
        ("PICLOUD_BLOB_ENDPOINT", "https://id:secret@s3.example.com"),
        ("PICLOUD_BLOB_ENDPOINT", "secret"),
        ("PICLOUD_BLOB_ENDPOINT", "https://s3.example.com?key=secret"),
    ],
)
def test_a_store_whose_url_holds_credentials_is_refused_without_showing_them(name: str, value: str) -> None:
    error = refusal(**{name: value})
    assert error.field == name
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("PICLOUD_WORKER_DEAD_S", "9", "PICLOUD_WORKER_BEAT_S"),
        ("PICLOUD_SANDBOX_WARM_WORKERS", "1", "PICLOUD_SANDBOX_SLOTS"),
        ("PICLOUD_MAX_ASYNC_TIMEOUT_S", "59", "PICLOUD_MAX_TIMEOUT_S"),
        ("PICLOUD_BLOB_GRACE_S", "299", "PICLOUD_MAX_ASYNC_TIMEOUT_S"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(name: str, value: str, other: str) -> None:
    error = refusal(**{name: value, "PICLOUD_SANDBOX_SLOTS": "2"})
    assert error.field == name
    assert other in str(error)


def test_the_help_says_of_every_variable_what_it_takes_and_means() -> None:
    text, table = settings_help(), settings_help(markdown=True)
    assert len(VARIABLES) == len({item.name for item in VARIABLES}) == len(table.splitlines()) - 2
    for item in VARIABLES:
        assert f"{item.name} ({item.expected}; default: {item.default})\n      {item.description}" in text
        assert f"| `{item.name}` | {item.expected} | {item.default} | {item.description} |" in table
        assert len(item.description) > 8


@given(st.sampled_from([item.name for item in VARIABLES]), st.text())
def test_any_text_is_taken_or_refused_by_its_variables_name(name: str, text: str) -> None:
    assert refused_for({"PICLOUD_SANDBOX_SLOTS": "1", name: text}) in {None, name, "PICLOUD_WORKER_DEAD_S", "PICLOUD_SANDBOX_WARM_WORKERS"}


@given(st.text())
def test_an_address_that_parses_prints_as_it_parses(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address
