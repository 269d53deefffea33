from __future__ import annotations

import io
import json
import logging
import secrets
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from domain.api_keys import SECRET_BYTES, TOKEN_PREFIX
from runtime.environment import Secret
from runtime.logging import configure_logging
from runtime.settings import Log

SECRET = "hush-hush-hush"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes; afterwards the process logs as before."""
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.configure(**configured)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_ours_and_the_libraries_lines_have_one_form(stream: io.StringIO) -> None:
    configure_logging(Log(format="json"), stream)
    structlog.get_logger("ours").info("started", port=8000)
    logging.getLogger("theirs").warning("slow: %s", "disk", extra={"disk": 1})
    ours, theirs = lines(stream)
    assert (ours["event"], ours["level"], ours["logger"], ours["port"]) == ("started", "info", "ours", 8000)
    assert (theirs["event"], theirs["level"], theirs["logger"], theirs["disk"]) == ("slow: disk", "warning", "theirs", 1)
    assert ours["timestamp"].endswith("Z")


def test_levels_below_are_not_logged_and_libraries_are_quiet(stream: io.StringIO) -> None:
    configure_logging(Log(format="json", level="info"), stream)
    structlog.get_logger("ours").debug("detail")
    logging.getLogger("uvicorn.error").info("Uvicorn running")
    logging.getLogger("uvicorn.access").critical("GET /?token=%s", SECRET)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("text", ["/hook/{}", "key={}", '{{"key": "{}"}}', "{}"])
def test_an_api_key_is_hidden_wherever_it_stands(stream: io.StringIO, text: str) -> None:
    configure_logging(Log(format="json"), stream)
    token = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    structlog.get_logger("ours").info("http_request", path=text.format(token))
    assert "pic_***" in stream.getvalue()
    assert token[len(TOKEN_PREFIX) :] not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_do_not_reach_the_log(stream: io.StringIO, form: Any) -> None:
    configure_logging(Log(format=form), stream)
    log = structlog.get_logger("ours")
    log.info("a", password=SECRET, session_token=SECRET, headers={"Authorization": f"Bearer {SECRET}", "cookie": SECRET}, dsn=Secret(SECRET))
    url = f"postgresql://ada:{SECRET}@db/x"
    log.info(url, path=f"/executions?token={SECRET}&x=1", values=[f"Bearer {SECRET}"])
    log.info("b", cookies=f"picloud_session={SECRET}; theme=dark", nested={"deep": [{"api_key": SECRET}]})
    logging.getLogger("theirs").warning("refused: password=%s", SECRET)
    try:
        int(url)
    except ValueError:
        log.exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "theme=dark" not in stream.getvalue(), "cookies are hidden whole"
    assert SECRET not in stream.getvalue()


def test_numbers_under_telling_names_are_shown(stream: io.StringIO) -> None:
    configure_logging(Log(format="json"), stream)
    structlog.get_logger("ours").info("claimed", fence_token=7, path="/x", error=ValueError("no"))
    (line,) = lines(stream)
    assert (line["fence_token"], line["path"], line["error"]) == (7, "/x", "no")


def test_warnings_are_lines_too(stream: io.StringIO) -> None:
    configure_logging(Log(format="json"), stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("deprecated", stacklevel=1)
    (line,) = lines(stream)
    assert line["logger"] == "py.warnings"
    assert "deprecated" in line["event"]
