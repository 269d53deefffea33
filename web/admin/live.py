"""`/apps/{app}/events/live` and `/apps/{app}/executions/live`: what happens, as it happens, as server-sent events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Request, Router, get
from litestar.params import QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from domain.authz import Capability, decide
from domain.errors import Invalid, NotFound
from runtime.live.channel import Key
from runtime.live.ends import STATUSES, EndTail
from runtime.live.subscription import Access
from runtime.live.tails import EventTail, text_of
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment, id_parameter, text_parameter
from web.core import Core
from web.documented import Answer, documented
from web.realtime.asked import position_of
from web.realtime.stream import HEADERS, Followed, stream
from web.requests import is_head
from web.security import identity_of

_EVENT_STREAM: Final = "text/event-stream"
_DOCUMENTED: Final = documented(
    answers={200: Answer(description="A stream that ends when its reader goes, or with `event: end` and a reason.", media_type=_EVENT_STREAM)},
    request_headers={"last-event-id": "The position up to which the reader has everything; before `after`."},
)

Status = Annotated[str | None, QueryParameter(schema_extra={"enum": list(STATUSES), "description": "Only those that have ended like this."})]


class LiveStream:
    """The answer, as an ASGI app. Raises PiCloudError when it is called, before anything is sent."""

    def __init__(self, core: Core, app_id: UUID, key: Key, after: int | None, needed: Sequence[Capability]) -> None:
        self._core = core
        self._app_id = app_id
        self._key = key
        self._after = after
        self._needed = needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if is_head(scope):
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def may_follow() -> bool:
            identity = await identity_of(self._core.authentication, scope)
            return identity is not None and all(decide(identity.principal, each, self._app_id).allowed for each in self._needed)

        async def judge() -> Access:
            if not await may_follow():
                raise NotFound("there is no such app", code="app_not_found")
            return Access(recheck=may_follow)

        await stream(self._core, scope, receive, send, Followed(self._app_id, self._key, judge, self._after))  # type: ignore[arg-type]  # Litestar's own ASGI types are narrower TypedDicts


@get("/apps/{app:str}/events/live", media_type=_EVENT_STREAM, opt=needs(Capability.EVENTS_READ) | _DOCUMENTED)
async def follow_events(
    call: Call,
    request: Request[Any, Any, Any],
    app: Segment,
    topic: Query = None,
    stream: Query = None,
    actor: Query = None,
    correlation_id: Query = None,
    after: Query = None,
) -> ASGIApp:
    """An app's events as they come. `id` is the position; `Last-Event-ID`, or `after`, goes on from there, and nothing is missed or sent twice."""
    found = await call.app(app)
    tail = EventTail(
        topic=None if topic is None else text_parameter(topic, "topic"),
        stream=None if stream is None else text_parameter(stream, "stream"),
        actor=None if actor is None else text_parameter(actor, "actor"),
        correlation_id=id_parameter(correlation_id, "correlation_id"),
    )
    return LiveStream(call.core, found.app_id, Key("events", "", text_of(tail)), position_of(request.scope, after), call.needs)


@get("/apps/{app:str}/executions/live", media_type=_EVENT_STREAM, opt=needs(Capability.EXECUTIONS_READ) | _DOCUMENTED)
async def follow_executions(
    call: Call, request: Request[Any, Any, Any], app: Segment, status: Status = None, script: Query = None, trigger: Query = None, after: Query = None
) -> ASGIApp:
    """Executions of an app as they end.

    Queued ones have their outcome's position as `id`, and none of them is missed. Runs that left no outcome in the log come without an `id`, as far as they
    were recorded, and only while one listens.
    """
    found = await call.app(app)
    if status is not None and status not in STATUSES:
        raise Invalid(f"status: expected one of {', '.join(STATUSES)}", field="status")
    tail = EndTail(status=status, script_id=id_parameter(script, "script"), trigger_id=id_parameter(trigger, "trigger"))
    return LiveStream(call.core, found.app_id, Key("executions", "", text_of(tail)), position_of(request.scope, after), call.needs)


router: Final = Router(path="/", route_handlers=[follow_events, follow_executions], tags=["live"])
