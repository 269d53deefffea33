"""Prints and log lines of a run, in the order in which they were written.

The prelude writes a log line as a print that begins with `MARK`: so one bounded collector keeps both in order, and what was written before an error, a
limit or the death of the worker is there without asking the sandbox again. A script that prints the mark itself forges nothing but its own log.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain.errors import Invalid
from domain.sandbox import LogLine
from domain.values import check_json

MARK: Final = "\x1e"
_LEVELS: Final = frozenset({"trace", "debug", "info", "warn", "error"})


def parse_output(text: str) -> tuple[tuple[LogLine, ...], int, int]:
    """Split what was collected into log lines and prints; also says how many bytes the prints and the log lines have."""
    lines: list[LogLine] = []
    printed_bytes = logged_bytes = 0
    for index, part in enumerate(text.split(MARK) if text else ()):
        rest = part
        if index > 0:
            head, _, tail = part.partition("\n")
            logged = _log_line(head)
            if logged is not None:
                lines.append(logged)
                logged_bytes += len(head.encode())
                rest = tail
        if rest:
            printed_bytes += len(rest.encode())
            lines.append(LogLine("print", rest))
    return tuple(lines), printed_bytes, logged_bytes


def _log_line(text: str) -> LogLine | None:
    try:
        line: Any = msgspec.json.decode(text)
        check_json(line, "log")
    except (msgspec.DecodeError, RecursionError, Invalid):
        return None
    if not isinstance(line, list) or len(line) != 3:
        return None
    level, message, data = line
    if level not in _LEVELS or not isinstance(message, str):
        return None
    return LogLine(level, message, data)
