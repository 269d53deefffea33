"""The operations of the data plane that are the same everywhere. They are plain ASGI, so nobody but this module declares them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from web.documented import Answer
from web.openapi.facts import Facts
from web.queued import Standing

Schema = dict[str, Any]

TAGS: Final = {
    "execute": "Scripts run directly, and what became of runs that were queued.",
    "realtime": "Live projections as server-sent events. The host says which app: `<slug>.localhost`, or a domain of its own.",
}
SUBSCRIBER: Final = "subscriber"
SUBSCRIBER_SCHEME: Final[Schema] = {
    "type": "apiKey",
    "in": "query",
    "name": "token",
    "description": "A subscriber's token (POST /api/v1/admin/apps/{app}/topics:token); it may be sent as a bearer token, too.",
}
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_EXECUTION_ID: Final = {"x-execution-id": "The execution's id."}
_SNAPSHOT: Final = "First comes `event: snapshot`, then `upsert` and `delete` for each later change"
_SUBSCRIBED: Final = (
    ("topics", "topic", "follow_topic", "The messages of a topic", "`data` is `{topic, message, published_at}`."),
    ("kv", "collection", "follow_kv", "A collection of key-value entries", f"{_SNAPSHOT}."),
    ("docs", "collection", "follow_docs", "A collection of documents", f"{_SNAPSHOT}; a document that matches no more is deleted."),
)
_EVENT_STREAM: Final = Answer(description="A stream without end. `id:` is the position to go on from.", media_type="text/event-stream")
_POSITION: Final = "Go on behind this position of the log: nothing is missed, nothing comes twice."


def runs() -> Iterator[Facts]:
    """Direct runs, by every method: it is the script's to tell them apart."""
    for method in _METHODS:
        yield Facts(
            method=method,
            path="/api/v1/execute/{script_id}",
            id="execute_script" if method == "POST" else f"execute_script_by_{method.lower()}",
            tag="execute",
            summary="Run a script now and answer as it does",
            description="For whoever may execute the app's scripts. The script finds the request in `ctx.request`, as on a route.",
            needs=(),
            path_names=("script_id",),
            answers={},
            problems=(404, 413, 502, 504, 507),
        )


def polls() -> Iterator[Facts]:
    """How a queued request stands."""
    yield Facts(
        method="GET",
        path="/api/v1/executions/{execution_id}",
        id="poll_execution",
        tag="execute",
        summary="How a queued request stands",
        description="The `Location` of a 202 has the whole URL. The token is for this execution alone; 404 for whoever has no valid one.",
        needs=None,
        path_names=("execution_id",),
        query={"token": {"description": "As the `Location` has it."}},
        required_query=frozenset({"token"}),
        answers={200: Answer(description="It is known.", shape=Standing, headers=_EXECUTION_ID)},
    )


def streams() -> Iterator[Facts]:
    """Live projections."""
    for place, name, operation, what, sent in _SUBSCRIBED:
        only = {"filter": {"description": "Only documents that match this filter, in JSON."}} if place == "docs" else {}
        yield Facts(
            method="GET",
            path=f"/realtime/{place}/{{{name}}}",
            id=operation,
            tag="realtime",
            summary=f"{what}, live",
            description=f"{sent} A comment every 30 s shows that the connection lives. 404 for what is not registered as externally subscribable.",
            needs=None,
            path_names=(name,),
            query={"after": {"description": _POSITION}, **only},
            request_headers={"last-event-id": f"{_POSITION} It goes before `after`; browsers send it by themselves."},
            answers={200: _EVENT_STREAM},
            problems=(401, 422, 429),
        )


def any_answer() -> Schema:
    """What a script may answer: anything, mostly JSON."""
    return {"description": "Whatever the script answers.", "content": {"application/json": {"schema": {}}, "*/*": {"schema": {}}}}
