"""What a run has read of secrets, replaced by `***` wherever it would be kept: logs, prints, errors, records, journals, dead letters.

Beside a value itself, the forms are replaced that it commonly takes on its way: escaped in JSON, quoted in a URL, in hex, and in base64 at any offset (as in
`user:password`). Values of fewer than four characters are left: they would be found everywhere. Parts of a value are not looked for.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

import msgspec

from domain.sandbox import LogLine, Reply, RunResult, ScriptError

MASK: Final = "***"
MIN_CHARS: Final = 4
_MIN_ENCODED_CHARS: Final = 8
_MAX_DEPTH: Final = 100


class Revealed:
    """The values that an execution has read, over all its runs."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._forms: list[str] = []

    def __len__(self) -> int:
        """How many texts are looked for: cleaning goes over what it cleans so many times."""
        return len(self._forms)

    def add(self, value: str) -> None:
        """A run is about to see this value."""
        if len(value) >= MIN_CHARS and value not in self._values:
            self._values.add(value)
            # The longest first: a form may be part of another.
            self._forms = sorted({*self._forms, *_forms(value)}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without them."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def cut_text(self, text: str) -> str:
        """The same for a text that may have been cut off within one of them."""
        text = self.text(text)
        in_order = sorted(self._forms)
        for at in self._begun(text):
            rest = text[at:]
            found = bisect_left(in_order, rest)
            if found < len(in_order) and in_order[found].startswith(rest):
                return text[:at] + MASK
        return text

    def _begun(self, text: str) -> list[int]:
        """Where, near the end of a text, one of them may begin. Each place is looked at once, however many of them begin alike."""
        first = max(0, len(text) - max(map(len, self._forms), default=0))
        return sorted(at for start in {form[:MIN_CHARS] for form in self._forms} for at in _places(text, start, first))

    def raw(self, data: bytes) -> bytes:
        """Bytes without them."""
        for form in self._forms:
            data = data.replace(form.encode(), MASK.encode())
        return data

    def data(self, value: Any) -> Any:
        """A value of plain types without them."""
        return self._data(value, 0) if self._forms else value

    def _data(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            return MASK
        match value:
            case str():
                return self.text(value)
            case bytes():
                return self.raw(value)
            case dict():
                return {self._data(key, depth + 1): self._data(item, depth + 1) for key, item in value.items()}
            case list() | tuple():
                return type(value)(self._data(item, depth + 1) for item in value)
            case int() if not isinstance(value, bool) and str(value) in self._values:
                return MASK
            case _:
                return value

    def result(self, result: RunResult, *, with_reply: bool) -> RunResult:
        """How a run ended, without them. Its reply is cleaned where it is kept, in the log; whoever waits for it gets what the script says."""
        logs = [LogLine(line.level, self.text(line.message), self.data(line.data)) for line in result.logs]
        if logs:  # a limit cuts off the last
            logs[-1] = LogLine(logs[-1].level, self.cut_text(logs[-1].message), logs[-1].data)
        reply = self._reply(result.reply) if with_reply and result.reply is not None else result.reply
        return msgspec.structs.replace(result, logs=tuple(logs), error=self._error(result.error), reply=reply)

    def _error(self, error: ScriptError | None) -> ScriptError | None:
        return None if error is None else msgspec.structs.replace(error, message=self.cut_text(error.message))

    def _reply(self, reply: Reply) -> Reply:
        headers = {name: self.text(value) for name, value in reply.headers.items()}
        return Reply(reply.status, headers, self.raw(reply.body))


def _places(text: str, start: str, first: int) -> Iterator[int]:
    at = text.find(start, first)
    while at >= 0:
        yield at
        at = text.find(start, at + 1)


def _forms(value: str) -> set[str]:
    raw = value.encode()
    plain = {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    quoted = {quote(value), quote(value, safe=""), quote_plus(value), raw.hex(), raw.hex().upper()}
    encoded = {form for offset in range(3) for form in _base64(raw, offset) if len(form) >= _MIN_ENCODED_CHARS}
    return plain | quoted | encoded


def _base64(raw: bytes, offset: int) -> tuple[str, str]:
    """The characters that depend on `raw` alone when `offset` (mod 3) bytes stand before it, in both alphabets."""
    first, end = -(-8 * offset // 6), 8 * (offset + len(raw)) // 6
    padded = bytes(offset) + raw
    return base64.b64encode(padded).decode()[first:end], base64.urlsafe_b64encode(padded).decode()[first:end]
