"""PiCloud's own log, on standard error: structlog for us, the libraries' `logging` through the same chain. Secrets are taken out last, whoever wrote them."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from runtime.settings import Log

HIDDEN: Final = "***"

_SECRET_KEY: Final = re.compile(r"password|passwd|secret|token|authorization|cookie|api_?key|credential|private_?key|^dsn$|database_url", re.IGNORECASE)
_IN_TEXT: Final = (
    (re.compile(r"(\w+://[^\s:/@]*:)[^\s/@]+@"), rf"\1{HIDDEN}@"),  # a password in a URL
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bpic_[A-Za-z0-9_-]{43}"), f"pic_{HIDDEN}"),  # an API key, wherever somebody has put it
    (re.compile(r"(?i)\b(token|password|api_?key|picloud_session)=[^\s&;\"']+"), rf"\1={HIDDEN}"),
)
_QUIET: Final = ("asyncio", "apscheduler", "uvicorn", "uvicorn.error", "httpx", "httpcore")
_MAX_DEPTH: Final = 6


def configure_logging(settings: Log, stream: TextIO = sys.stderr) -> None:
    """Set up logging for the process: once, at start. Libraries below warning are heard only at level debug; uvicorn's access log never: it shows queries."""
    level = getattr(logging, settings.level.upper())
    shared = _shared()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_last(settings, stream)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    logging.getLogger("uvicorn.access").disabled = True


def hide_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A structlog processor: values under telling names, and what looks like a credential inside any text (also of a traceback)."""
    del logger, method
    return {key: _hidden(key, value, 0) for key, value in event.items()}


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _last(settings: Log, stream: TextIO) -> list[Processor]:
    """From an event to its line. Tracebacks become text before secrets are hidden, so that they are hidden there, too."""
    render: Processor = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
    if settings.format == "json":
        render = structlog.processors.JSONRenderer(default=str)
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, hide_secrets, render]


def _hidden(key: str, value: Any, depth: int) -> Any:
    if _SECRET_KEY.search(key) and not isinstance(value, bool | int | float | None):
        return HIDDEN
    if isinstance(value, str):
        return _clean(value)
    if depth < _MAX_DEPTH and isinstance(value, dict):
        return {name: _hidden(str(name), item, depth + 1) for name, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_hidden("", item, depth + 1) for item in value]
    return value if isinstance(value, int | float | None) else _clean(str(value))


def _clean(text: str) -> str:
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text
