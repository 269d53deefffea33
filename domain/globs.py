"""Globs: which names a trigger listens to, and the same question asked backwards, by the name, so that an index can answer it.

A pattern is a name, `prefix*`, or `*`; of topics a name, `prefix.*`, or `*`. For the index each pattern has a key: `e:` and the name, or `p:` and the prefix.
So the name `a*` is never mistaken for the prefix `a`. The patterns that match a name are those whose key is among its candidates.
"""

from __future__ import annotations

from typing import Final, NoReturn

from domain.errors import Invalid
from domain.values import check_text

MAX_GLOB_BYTES: Final = 129
"""A collection's name (128) and the `*`."""
MAX_TOPIC_PATTERN_BYTES: Final = 258
"""A topic's name (256) and the `.*`."""

_EXACT: Final = "e:"
_PREFIX: Final = "p:"


def check_glob(text: str, field: str) -> None:
    """Raise Invalid naming `field` unless `text` is a name, `prefix*` or `*`."""
    _check(text, field, MAX_GLOB_BYTES)


def check_topic_pattern(text: str, field: str) -> None:
    """Raise Invalid naming `field` unless `text` is a topic, `prefix.*` or `*`."""
    _check(text, field, MAX_TOPIC_PATTERN_BYTES)
    if text.endswith("*") and text != "*" and (not text.endswith(".*") or text == ".*"):
        _refuse(field, "'*' stands alone or after a prefix and a dot, as in 'orders.*'")


def pattern_key(text: str) -> str:
    """The index key of a checked pattern of either sort."""
    return _PREFIX + text[:-1] if text.endswith("*") else _EXACT + text


def matches(key: str, name: str) -> bool:
    """Whether the pattern of this key matches the name."""
    return name.startswith(key[2:]) if key.startswith(_PREFIX) else name == key[2:]


def candidates(name: str) -> list[str]:
    """The keys of all globs that match `name`: one more than it has characters, and one."""
    return [_EXACT + name, *(_PREFIX + name[:end] for end in range(len(name) + 1))]


def topic_candidates(name: str) -> list[str]:
    """The keys of all topic patterns that match `name`: one for each dot, and two."""
    ends = [index + 1 for index, char in enumerate(name) if char == "."]
    return [_EXACT + name, _PREFIX, *(_PREFIX + name[:end] for end in ends)]


def _check(text: str, field: str, max_bytes: int) -> None:
    if not text:
        _refuse(field, "empty; '*' matches every name")
    check_text(text, field)
    if len(text.encode()) > max_bytes:
        _refuse(field, f"at most {max_bytes} bytes are accepted")
    if "*" in text[:-1]:
        _refuse(field, "'*' stands only at the end")


def _refuse(field: str, why: str) -> NoReturn:
    raise Invalid(f"{field}: {why}", field=field)
