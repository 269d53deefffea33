from collections.abc import Callable, Iterable, Iterator
from typing import Any

class Request:
    method: str
    path: str
    host: str
    headers: dict[str, str]
    query: dict[str, str]
    params: dict[str, str]
    rest: str | None
    body: Any
    body_bytes: bytes

class Event:
    source: str
    op: str
    position: int
    version: int
    kv: Any
    docs: Any
    cron: Any
    schedule: Any
    files: Any
    pubsub: Any
    dead_letter: Any

class Ctx:
    execution_id: str
    script_id: str
    script_name: str
    app_id: str
    request_id: str
    invocation_type: str
    sdk_version: str
    depth: int
    attempt: int
    request: Request
    event: Event

def hasattr(obj: object, name: str) -> bool: ...
def getattr(obj: object, name: str, default: Any = ...) -> Any: ...
def map(function: Callable[..., Any], *iterables: Iterable[Any]) -> Iterator[Any]: ...
def filter(function: Callable[[Any], Any] | None, iterable: Iterable[Any]) -> Iterator[Any]: ...
