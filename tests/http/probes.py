"""How each route of the control plane is asked for something that is there: what stands in its path, its body, and what it uses up.

`tests/http/test_access.py` asks every route in the name of all kinds of people. A route that needs no body and whose path names only what `World.path` knows
needs no entry here; any other that is missing fails that test.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import msgspec
from uuid_utils.compat import uuid7

from domain.events import Metadata
from domain.executions import ExecutionDeadLettered, Task, execution_stream
from domain.sandbox import ScriptError
from domain.units import Change, Record, Unit
from runtime.platform import Platform
from tests.http.admin_support import API, ENDPOINT, UNKNOWN_ID, make_app, make_route, make_script
from tests.http.people import make_user

LATER: Final = "2999-01-01T00:00:00Z"


class World:
    """An app with one of everything in it, and what makes another when one is used up. `path` is what stands in paths for each name of a parameter."""

    def __init__(self, core: Platform, owner: httpx.AsyncClient) -> None:
        self._core = core
        self._owner = owner
        self._count = 0
        self.path: dict[str, str] = {"collection": "c", "key": "k", "id": "d", "position": "1", "number": "1", "name": "t"}

    async def build(self, slug: str) -> None:
        """Make the app and everything in it."""
        self.path["app"] = await make_app(self._owner, slug)
        for make in MAKERS.values():
            await make(self)

    def new_name(self) -> str:
        """A name that nothing has yet."""
        self._count += 1
        return f"n{self._count}"

    @property
    def app(self) -> str:
        return self.path["app"]

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """An answer's body, for the owner, about the app."""
        answer = await self._owner.request(method, f"{API}/apps/{self.app}{path}", **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def script(self) -> None:
        self.path["script"] = await make_script(self._owner, self.app, self.new_name())

    async def route(self) -> None:
        self.path["route"] = await make_route(self._owner, self.path["script"], f"/{self.new_name()}")

    async def trigger(self) -> None:
        body = {"script_id": self.path["script"], "collection_glob": "never"}
        self.path["trigger"] = (await self.ask("POST", "/triggers/kv", json=body))["id"]

    async def entry(self) -> None:
        await self.ask("PUT", "/kv/c/k", json={"value": 1})

    async def document(self) -> None:
        await self.ask("PUT", "/docs/c/d", json={"data": {"n": 1}})

    async def file(self) -> None:
        self.path["file_id"] = (await self.ask("POST", "/files/c", files=upload()))["id"]

    async def secret(self) -> None:
        await self.ask("PUT", "/secrets/t", json={"value": "x"})

    async def topic(self) -> None:
        topics = (await self.ask("GET", "/topics", params={"limit": 200}))["items"]
        if all(topic["name"] != "t" for topic in topics):
            await self.ask("POST", "/topics", json={"name": "t", "external_subscribable": True})

    async def signing_key(self) -> None:
        self.path["kid"] = (await self.ask("POST", "/subscriber-keys:rotate"))["kid"]

    async def execution(self) -> None:
        body = {"script_id": self.path["script"], "run_at": LATER}
        self.path["execution"] = (await self.ask("POST", "/executions", json=body))["execution_id"]

    async def dead_letter(self) -> None:
        now = datetime.now(UTC)
        task = Task(execution_id=uuid7(), source="kv", script_id=UUID(self.path["script"]), trigger_id=UUID(self.path["trigger"]), cause_position=1)
        dead = ExecutionDeadLettered(
            task=task,
            attempts=1,
            reason="raised",
            error=ScriptError(type="KeyError", message="x"),
            first_attempt_at=now,
            last_attempt_at=now + timedelta(seconds=1),
            duration_ms=1.0,
        )
        changes = (Change(Record(name=execution_stream(task.execution_id), event=dead)),)
        await self._core.appender.append(Unit(app_id=UUID(self.app), metadata=Metadata(unit_id=uuid7()), now=now, changes=changes))
        self.path["dead_letter"] = str(task.execution_id)

    async def person(self) -> None:
        self.path["person"] = str((await make_user(self._core, self.new_name())).id)

    async def member(self) -> None:
        self.path["user"] = str((await make_user(self._core, self.new_name())).id)
        await self.ask("POST", "/members", json={"user_id": self.path["user"], "role": "viewer"})

    async def domain(self) -> None:
        self.path["domain"] = (await self.ask("POST", "/domains", json={"pattern": f"{self.new_name()}.example.com"}))["id"]

    async def account(self) -> None:
        self.path["user_id"] = str((await make_user(self._core, self.new_name())).id)

    async def api_key(self) -> None:
        answer = await self._owner.post(f"{API}/api-keys", json={"name": "k", "scopes": ["log:read"]})
        self.path["api_key"] = answer.json()["id"]


def upload() -> Mapping[str, Any]:
    """The parts of a small file."""
    return {"file": ("a.txt", b"a", "text/plain")}


MAKERS: Final[Mapping[str, Callable[[World], Awaitable[None]]]] = {
    "script": World.script,
    "route": World.route,
    "trigger": World.trigger,
    "entry": World.entry,
    "document": World.document,
    "file": World.file,
    "secret": World.secret,
    "topic": World.topic,
    "signing_key": World.signing_key,
    "execution": World.execution,
    "dead_letter": World.dead_letter,
    "person": World.person,
    "member": World.member,
    "domain": World.domain,
    "account": World.account,
    "api_key": World.api_key,
}
"""In the order in which they need each other."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """`body` makes the JSON, `files` is a multipart upload. `uses_up` is made anew after a call that was allowed. `path` overrides what parameters are.

    `also` are problems that are an answer, too, to whoever may ask. `needs` are the capabilities of this call, when its route declares others.
    """

    body: Callable[[World], Any] | None = None
    files: bool = False
    uses_up: tuple[str, ...] = ()
    path: Callable[[World], dict[str, str]] = lambda _: {}
    also: frozenset[str] = frozenset()
    needs: tuple[str, ...] | None = None


def _script(world: World) -> dict[str, Any]:
    return {"app_id": world.app, "name": world.new_name(), "source": ENDPOINT}


def _trigger(**more: Any) -> Probe:
    return Probe(body=lambda world: {"script_id": world.path["script"], "enabled": False, **more})


PROBES: Final[Mapping[str, Probe]] = {
    "DELETE /auth/sessions/{session_id}": Probe(path=lambda _: {"session_id": UNKNOWN_ID}, also=frozenset({"not_found"})),
    "POST /auth/password": Probe(body=lambda _: {"current_password": "x", "new_password": "short"}, also=frozenset({"invalid"})),
    "POST /admins": Probe(body=lambda world: {"username": world.new_name(), "password": "long enough", "instance_role": "member"}),
    "PATCH /admins/{user_id}": Probe(body=lambda _: {"email": "ada@example.com"}, uses_up=("account",)),
    "DELETE /admins/{user_id}": Probe(uses_up=("account",)),
    "POST /api-keys": Probe(body=lambda _: {"name": "k", "scopes": ["instance:admin"]}),
    "DELETE /api-keys/{key}": Probe(uses_up=("api_key",), path=lambda world: {"key": world.path["api_key"]}, also=frozenset({"key_not_found"})),
    "POST /apps": Probe(body=lambda world: {"name": "a", "slug": world.new_name()}),
    "PATCH /apps/{app}": Probe(body=lambda world: {"name": world.new_name()}),
    "DELETE /apps/{app}": Probe(also=frozenset({"app_has_scripts"})),
    "POST /apps/{app}/slug:check": Probe(body=lambda world: {"slug": world.new_name()}),
    "POST /apps/{app}/domains": Probe(body=lambda world: {"pattern": f"{world.new_name()}.example.com"}),
    "DELETE /apps/{app}/domains/{domain}": Probe(uses_up=("domain",)),
    "PATCH /apps/{app}/settings": Probe(body=lambda _: {"server_timing": True}),
    "PATCH /settings": Probe(body=lambda _: {"control_plane": {"requests_per_minute_per_key": 100_000}}),
    "POST /apps/{app}/members": Probe(body=lambda world: {"user_id": world.path["person"], "role": "viewer"}, uses_up=("person",)),
    "PATCH /apps/{app}/members/{user}": Probe(body=lambda _: {"role": "editor"}, uses_up=("member",)),
    "DELETE /apps/{app}/members/{user}": Probe(uses_up=("member",)),
    "POST /scripts": Probe(body=_script),
    "POST /scripts:check": Probe(body=lambda world: {"app_id": world.app, "source": ENDPOINT}),
    "PUT /scripts/{script}": Probe(body=lambda world: {"timeout_seconds": 5 + world.new_name().count("1")}),
    "DELETE /scripts/{script}": Probe(uses_up=("script", "route", "trigger", "execution", "dead_letter")),
    "POST /scripts/{script}/routes": Probe(body=lambda world: {"path": f"/{world.new_name()}"}),
    "DELETE /routes/{route}": Probe(uses_up=("route",)),
    "POST /routes:check": Probe(body=lambda world: {"app_id": world.app, "path": "/x"}),
    "POST /routes:match": Probe(body=lambda world: {"app_id": world.app, "host": "localhost", "method": "GET", "path": "/x"}),
    "PATCH /apps/{app}/triggers/{trigger}": Probe(body=lambda _: {"enabled": True}),
    "DELETE /apps/{app}/triggers/{trigger}": Probe(uses_up=("trigger", "dead_letter")),
    "POST /apps/{app}/triggers/{trigger}": Probe(path=lambda _: {"trigger": "other"}, also=frozenset({"unknown_trigger_kind"})),
    "POST /apps/{app}/triggers/kv": _trigger(collection_glob="never"),
    "POST /apps/{app}/triggers/docs": _trigger(collection_glob="never"),
    "POST /apps/{app}/triggers/files": _trigger(collection_glob="never"),
    "POST /apps/{app}/triggers/pubsub": _trigger(topic_pattern="never"),
    "POST /apps/{app}/triggers/dead_letter": _trigger(),
    "POST /apps/{app}/triggers/cron": _trigger(schedule="0 0 0 1 1 *"),
    "POST /apps/{app}/dead_letters/{dead_letter}/replay": Probe(uses_up=("trigger", "dead_letter")),
    "POST /apps/{app}/dead_letters/{dead_letter}/resolve": Probe(body=lambda _: {"reason": "old"}, uses_up=("dead_letter",)),
    "POST /apps/{app}/dead_letters:replay": Probe(body=lambda _: {}, uses_up=("dead_letter",)),
    "PUT /apps/{app}/kv/{collection}/{key}": Probe(body=lambda _: {"value": 2}),
    "DELETE /apps/{app}/kv/{collection}/{key}": Probe(uses_up=("entry",)),
    "POST /apps/{app}/docs/{collection}": Probe(body=lambda _: {"data": {}}),
    "POST /apps/{app}/docs/{collection}:find": Probe(body=lambda _: {"filter": {}}, needs=("docs.read",)),
    "PUT /apps/{app}/docs/{collection}/{id}": Probe(body=lambda _: {"data": {}}),
    "PATCH /apps/{app}/docs/{collection}/{id}": Probe(body=lambda _: {"merge": {"n": 2}}),
    "DELETE /apps/{app}/docs/{collection}/{id}": Probe(uses_up=("document",)),
    "PUT /apps/{app}/secrets/{name}": Probe(body=lambda _: {"value": "y"}),
    "DELETE /apps/{app}/secrets/{name}": Probe(uses_up=("secret",)),
    "POST /apps/{app}/files/{collection}": Probe(files=True),
    "PUT /apps/{app}/files/{collection}/{file_id}": Probe(files=True),
    "DELETE /apps/{app}/files/{collection}/{file_id}": Probe(uses_up=("file",)),
    "POST /apps/{app}/topics": Probe(body=lambda world: {"name": world.new_name()}),
    "PATCH /apps/{app}/topics/{name}": Probe(body=lambda _: {"external_subscribable": True}),
    "DELETE /apps/{app}/topics/{name}": Probe(uses_up=("topic",)),
    "POST /apps/{app}/topics/{name}": Probe(body=lambda _: {"message": 1}, path=lambda _: {"name": "t:publish"}),
    "POST /apps/{app}/topics:token": Probe(body=lambda _: {"topics": ["t"]}),
    "POST /apps/{app}/subscriber-keys:rotate": Probe(uses_up=("signing_key",)),
    "DELETE /apps/{app}/subscriber-keys/{kid}": Probe(uses_up=("signing_key",)),
    "POST /apps/{app}/executions": Probe(body=lambda world: {"script_id": world.path["script"], "run_at": LATER}),
    "DELETE /apps/{app}/executions/{execution}": Probe(uses_up=("execution",)),
}
"""By method and path, as routes are declared, under the control plane's prefix."""
