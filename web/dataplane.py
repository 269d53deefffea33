"""The data plane: requests to scripts. Host -> app -> route -> script -> answer, or a place in the queue.

It is plain ASGI, not Litestar: there is nothing to declare about routes that other people bring, and this is the path whose every microsecond counts.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

import structlog
from uuid_utils.compat import uuid7

from domain.authz import Capability, Principal, authorize, decide
from domain.errors import Forbidden, Malformed, NotFound, Unauthenticated
from domain.executions import HttpRequest
from domain.ids import parse_uuid
from domain.routing import Match
from projections.control.views import AppView, ScriptView, app_of_script
from runtime.dispatch import request_ctx
from runtime.invocation import Invocation
from runtime.platform import Platform
from runtime.records import record_of
from web.answers import answer_of, problem_reply, send_reply, timing_of
from web.cors import answer_cors
from web.front import Receive, Scope, Send
from web.headers import also, own_origin
from web.hosts import app_of_request
from web.incoming import headers_for_script, host_of, query_of, read_body
from web.limits import admit, admit_key
from web.noted import note_key, note_refused_run
from web.problems import translate
from web.queued import answer_poll, answer_queued
from web.realtime.asked import PREFIX
from web.realtime.stream import answer_realtime
from web.requests import request_id_of
from web.security import credential_of, is_apps_host, is_own_machine, principal_of, refuse_service_worker

_EXECUTE: Final = "/api/v1/execute/"
_POLL: Final = "/api/v1/executions/"

log = structlog.get_logger(__name__)


class DataPlane:
    """The ASGI app behind the front for everything that is not the control plane's."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises PiCloudError, which the front turns into a problem document."""
        try:
            await self._answer(scope, receive, send)
        except ConnectionResetError:
            log.debug("caller_gone", request_id=request_id_of(scope))  # before the end of the body: nothing was run, and nobody is there to be told

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].partition(b"?")[0].decode("ascii")
        if path.startswith(_POLL):
            await answer_poll(self._platform, scope, send, path.removeprefix(_POLL))
        elif path.startswith(PREFIX):
            await answer_realtime(self._platform, scope, receive, send, path)
        elif path.startswith(_EXECUTE):
            await self._execute(scope, receive, send, path.removeprefix(_EXECUTE))
        else:
            await self._route(scope, receive, send, path)

    async def _route(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        host = host_of(scope)
        app_id = await app_of_request(self._platform.directory, scope)
        refuse_service_worker(host, scope)
        view = await self._platform.directory.view(app_id)
        if view.settings.cors.origins and await answer_cors(scope, send, view.settings.cors):
            return
        match = view.routes.match(host, scope["method"], path)
        script = None if match is None else view.scripts.get(match.route.script_id)
        if match is None or script is None:
            raise NotFound("no route matches this request", code="no_route")
        await admit(self._platform, scope, view)
        principal = await principal_of(self._platform.authentication, self._platform.settings, scope, by_cookie=is_own_machine(host))
        note_key(self._platform.access, scope, principal)
        admit_key(self._platform, scope, view, principal)
        request = await self._read(scope, receive, host, path, match, attached=principal is not None)
        if match.route.dispatch_mode == "sync":
            await self._run(scope, receive, send, view, script, request, principal, kind="http")
        else:
            await answer_queued(self._platform, scope, receive, send, view, match.route, request, principal)

    async def _execute(self, scope: Scope, receive: Receive, send: Send, rest: str) -> None:
        """A direct run, for admins and keys: `/api/v1/execute/{script_id}`."""
        own_origin(scope)
        script_id = parse_uuid(rest)
        by_cookie = not await is_apps_host(self._platform.directory, scope)
        principal = await principal_of(self._platform.authentication, self._platform.settings, scope, changes=True, by_cookie=by_cookie)
        if principal is None:
            note_refused_run(self._platform.access, scope, Unauthenticated())
            raise Unauthenticated
        note_key(self._platform.access, scope, principal)
        missing = NotFound("there is no such script", code="script_not_found")
        app_id = None if script_id is None else await app_of_script(self._platform.reader, script_id)
        if app_id is None or script_id is None:
            raise missing
        try:
            authorize(principal, Capability.EXECUTE, app_id)
        except (NotFound, Forbidden) as error:
            note_refused_run(self._platform.access, scope, error, principal, app_id)
            raise missing if isinstance(error, NotFound) else error from None
        view = await self._platform.directory.view(app_id)
        script = view.scripts.get(script_id)
        if script is None:
            raise missing
        if script.kind != "endpoint":
            raise Malformed("a module cannot be executed", code="not_an_endpoint")
        await admit(self._platform, scope, view)
        admit_key(self._platform, scope, view, principal)
        request = await self._read(scope, receive, host_of(scope), "/", None, attached=credential_of(scope) is not None)
        await self._run(scope, receive, send, view, script, request, principal, kind="admin")

    async def _read(self, scope: Scope, receive: Receive, host: str, path: str, match: Match | None, *, attached: bool) -> HttpRequest:
        body = await read_body(scope, receive, self._platform.settings.http.max_body_bytes)
        return HttpRequest(
            method=scope["method"],
            host=host,
            path=scope["path"] if match is not None else path,
            headers=headers_for_script(scope, attached=attached),
            query=query_of(scope["query_string"]),
            params={} if match is None else match.params,
            rest=None if match is None else match.rest,
            body=body,
        )

    async def _run(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        view: AppView,
        script: ScriptView,
        request: HttpRequest,
        principal: Principal | None,
        *,
        kind: str,
    ) -> None:
        """Run now and answer. A caller who goes meanwhile cancels nothing."""
        platform = self._platform
        call = Invocation(
            view=view,
            script=script,
            execution_id=uuid7(),
            kind=kind,
            ctx={"request": await request_ctx(request)},
            timeout_s=min(script.timeout_s, platform.ceiling.timeout_s),
            actor="public" if principal is None else principal.actor,
            principal=principal,
            request_id=request_id_of(scope),
        )
        asked = perf_counter()
        try:
            await platform.gate.enter()
            entered = perf_counter()
            platform.usage.execution(view.app_id)
            try:
                outcome = await platform.executor.execute(call)
            finally:
                platform.gate.leave()
        except Exception as error:  # noqa: BLE001  # translated and logged, as the front would, but told with the execution's id
            await send_reply(send, problem_reply(translate(error, call.request_id or "")), call.execution_id)
            return
        platform.metrics.executed(outcome.ending, "http", outcome.duration_s)
        for _ in range(outcome.reruns):
            platform.metrics.rerun()
        platform.records.add(record_of(call, outcome, "http", None))
        if view.settings.server_timing or (principal is not None and decide(principal, Capability.EXECUTIONS_READ, view.app_id).allowed):
            also(scope, timing_of(outcome, entered - asked))
        reply = answer_of(outcome, call.execution_id)
        if outcome.events and _has_gone(receive):
            await platform.requests.abandon(view.app_id, call, reply.status)
        await send_reply(send, reply, call.execution_id)


def _has_gone(receive: Receive) -> bool:
    """Whether the caller has hung up: servers hold that message ready. One step of `receive` is taken by hand, far cheaper than a cancel scope."""
    step = receive().__await__()
    try:
        next(step)
    except StopIteration as message:
        gone: bool = message.value["type"] == "http.disconnect"
        return gone
    step.close()
    return False
