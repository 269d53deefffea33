from typing import Any

class Request:
    method: str
    path: str
    host: str
    headers: dict[str, str]
    query: dict[str, str]
    params: dict[str, str]
    rest: str
    body: Any
    body_bytes: bytes

class Event:
    source: str
    op: str
    kv: Any
    docs: Any
    files: Any
    pubsub: Any
    cron: Any
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
