"""Random histories over every kind of event: steps drawn by hypothesis, made into units that fit what has happened so far."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from domain.api_keys import ApiKeyCreated, ApiKeyRevoked, api_key_stream
from domain.app_settings import SETTINGS, AppSettings, AppSettingsChanged, InstanceSettings, InstanceSettingsChanged, KeyLimits
from domain.apps import AppChanged, AppCreated, AppDeleted, AppPurged, DomainAdded, DomainRemoved, app_stream, domain_stream
from domain.authz import AppRole
from domain.blobs import Blob
from domain.bounds import RateLimits
from domain.cron import Ticked, TickSkipped, cron_stream
from domain.dead_letters import ResolveDeadLetter
from domain.docs.events import CreateDoc, DeleteDoc, PutDoc, UpdateDoc
from domain.events import Event, Metadata
from domain.executions import (
    ExecutionAbandoned,
    ExecutionDeadLettered,
    ExecutionFailed,
    ExecutionSkipped,
    ExecutionSucceeded,
    HttpRequest,
    HttpRequestAccepted,
    IdempotencyKeyUsed,
    Task,
    dead_letter_pattern,
    execution_stream,
    idempotency_stream,
)
from domain.files import CreateFile, DeleteFile, UpdateFile
from domain.globs import pattern_key
from domain.ids import NIL_APP
from domain.kv import DeleteKey, ExpireKey, IncrementKey, SetKey
from domain.members import MemberAdded, MemberRemoved, MemberRoleChanged, member_stream
from domain.names import claim_name, release_name, touch_guard
from domain.pubsub import Publish
from domain.retention import RetentionApplied, retention_stream
from domain.retry import RetryPolicy
from domain.routes import RouteCreated, RouteDeleted, route_stream
from domain.routing import Route
from domain.sandbox import Limits, Reply, ScriptError
from domain.schedule import CancelExecution, ScheduleExecution
from domain.scripts import ScriptDeleted, ScriptSaved, script_stream
from domain.secrets import DeleteSecret, RotateSecret, SetSecret
from domain.topics import SUBSCRIBER_KEYS, SubscriberKeyRevoked, SubscriberKeyRotated, Topic, TopicDeleted, TopicSaved, registry_stream
from domain.triggers import Trigger, TriggerDeleted, TriggerSaved, trigger_stream
from domain.units import Change, Effect, Record, Unit
from domain.users import UserChanged, UserCreated, UserDeleted, user_stream
from tests.model.outbox_model import OutboxModel

Step = tuple[str, int, int, int]
"""What to do, and three small choices."""

APPS = (UUID(int=0xA), UUID(int=0xB))
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ROLES: tuple[AppRole, ...] = ("viewer", "editor", "app_admin")
ERROR = ScriptError("ValueError", "no")


class History:
    """Makes units of steps. `model` knows what was committed; what an earlier step of the same batch does is remembered here."""

    def __init__(self, model: OutboxModel) -> None:
        self.model = model
        self._random = Random(7)
        self._versions: dict[UUID, int] = {}
        self._owners: dict[tuple[str, int], UUID] = {}
        self._spent: set[UUID] = set()
        self._unpurged: UUID | None = None
        self._files: set[tuple[UUID, str, UUID]] = set()

    def batch(self, steps: list[Step]) -> list[Unit]:
        """Units to be appended together; steps for which there is nothing to do are left out."""
        self._spent.clear()
        return [unit for step in steps if (unit := self._unit(step)) is not None]

    def _unit(self, step: Step) -> Unit | None:
        kind, a, b, c = step
        app_id, changes = STEPS[kind](self, a, b, c)
        if not changes:
            return None
        metadata = Metadata(unit_id=self._id(), actor=f"user:{a}", depth=c, correlation_id=None if b == 0 else UUID(int=b))
        return Unit(app_id=app_id, metadata=metadata, now=datetime.now(UTC), changes=tuple(changes))

    def _id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _kv(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        collection, key = ("ab", "a", "b")[c], f"k{b}"
        set_key = SetKey(collection=collection, key=key, value=msgspec.Raw(b"%d" % b), ttl_s=None if a < 2 else 0.000001)
        effects: list[list[Effect]] = [
            [set_key],
            [DeleteKey(collection=collection, key=key)],
            [ExpireKey(collection=collection, key=key), set_key],
            [IncrementKey(collection=collection, key=key, by=1), IncrementKey(collection="b", key="n", by=1.5), set_key],
        ]
        return APPS[a % 2], [Change(effect) for effect in effects[self._random.randrange(4)]]

    def _publish(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        return APPS[a % 2], [Change(Publish(topic=("ab", "a.b", "b", "n")[b], message=msgspec.Raw(b"%d" % c)))]

    def _topic(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        if b == 3:
            event: Event = SubscriberKeyRevoked(kid="k") if c else SubscriberKeyRotated(kid="k", previous=None)
            return APPS[a % 2], [_record(SUBSCRIBER_KEYS, event)]
        topic = Topic(kind=("topic", "kv", "docs")[b], name=f"n{a // 2}", external_subscribable=bool(c), auth_mode="token")
        event = TopicDeleted(kind=topic.kind, name=topic.name) if c == 2 else TopicSaved(topic=topic)
        return APPS[a % 2], [_record(registry_stream(topic.kind, topic.name), event)]

    def _docs(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        place: dict[str, Any] = {"collection": ("ab", "a", "b")[c], "id": f"d{b}"}
        data = msgspec.Raw(b'{"n":%d,"f":1.0,"l":[1,{"b":null}]}' % self._random.randrange(100))
        effects: list[list[Effect]] = [
            [PutDoc(**place, data=data)],
            [DeleteDoc(**place)],
            [DeleteDoc(**place), CreateDoc(**place, data=data)],
            [PutDoc(**place, data=data), UpdateDoc(**place, data=data)],
        ]
        return APPS[a % 2], [Change(effect) for effect in effects[self._random.randrange(4)]]

    def _file(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        """A file that is new, changed, or deleted; some all at once."""
        app_id, collection = APPS[a % 2], ("ab", "a", "b")[c]
        blob = Blob(str(b) * 64, b)
        mine = sorted(file_id for owner, held, file_id in self._files if (owner, held) == (app_id, collection))
        if b < 2 or not mine:
            file_id = self._id()
            create = CreateFile(collection=collection, id=file_id, name=f"{a}", content_type="a/b", blob=blob)
            if b == 0:
                return app_id, [Change(create), Change(DeleteFile(collection=collection, id=file_id))]
            self._files.add((app_id, collection, file_id))
            return app_id, [Change(create), *([Change(UpdateFile(collection=collection, id=file_id, blob=Blob("f" * 64, 0)))] if a > 1 else [])]
        file_id = mine[a % len(mine)]
        if b == 2:
            return app_id, [Change(UpdateFile(collection=collection, id=file_id, name=f"{a}{b}{c}", blob=blob if a else None))]
        self._files.discard((app_id, collection, file_id))
        return app_id, [Change(DeleteFile(collection=collection, id=file_id))]

    def _script(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        script_id = UUID(int=100 + 10 * (a % 2) + b)
        if c == 2 and script_id in self._versions:
            event: Event = ScriptDeleted(script_id=script_id, name=f"s{b}")
            return APPS[a % 2], [_record(script_stream(script_id), event), touch_guard("modules")]
        version = self._versions[script_id] = self._versions.get(script_id, 0) + (1 if c else 0) or 1
        saved = ScriptSaved(script_id=script_id, name=f"s{b}", kind="endpoint", source=f"# {version}", source_version=version, timeout_s=1.5, limits=Limits())
        return APPS[a % 2], [_record(script_stream(script_id), saved)]

    def _route(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        route_id = UUID(int=200 + 10 * (a % 2) + b)
        route = Route(id=route_id, script_id=UUID(int=100 + c), host_kind="any", host=None, path_kind="exact", path=f"/{c}", method=None, dispatch_mode="sync")
        event = RouteDeleted(route_id=route_id, script_id=route.script_id) if c == 2 else RouteCreated(route=route)
        return APPS[a % 2], [_record(route_stream(route_id), event)]

    def _trigger(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        app_id, trigger_id = APPS[a % 2], UUID(int=300 + 10 * (a % 2) + b)
        if c == 2 and (app_id, trigger_id) in self.model.triggers:
            return app_id, [_record(trigger_stream(trigger_id), TriggerDeleted(trigger_id=trigger_id))]
        detail: dict[str, Any] = {}
        if b == 3:
            detail = {"source": "http"} if a < 2 else {"script_id": str(UUID(int=100))}
        source: Any = "dead_letter" if b == 3 else "pubsub" if c == 1 else "kv"
        globs = ("*", "a.*", "b") if source == "pubsub" else ("*", "a*", "b")
        pattern = dead_letter_pattern(detail.get("source"), None, detail.get("script_id")) if b == 3 else pattern_key(globs[b])
        trigger = Trigger(
            id=trigger_id,
            source="files" if source == "kv" and (a, b) == (2, 2) else source,
            script_id=UUID(int=100 + c),
            enabled=a < 3,
            ops=("delete",) if b == 1 and c else (),
            pattern=pattern,
            retry=RetryPolicy(),
            registrant="user:1",
            detail=detail,
        )
        together = self._kv(a, b, c)[1] if c else []
        return app_id, [_record(trigger_stream(trigger_id), TriggerSaved(trigger=trigger)), *together]

    def _cron(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        """A cron trigger changes, or ticks."""
        app_id, trigger_id = APPS[a % 2], UUID(int=500 + b)
        now = datetime.now(UTC)
        following = None if c == 0 else now + timedelta(days=300)
        if c == 2:
            detail = {"schedule": f"{b} * * * * *", "timezone": "UTC", "overlap": "skip"}
            trigger = Trigger(
                id=trigger_id,
                source="cron",
                script_id=UUID(int=100),
                enabled=a < 2,
                ops=(),
                pattern="",
                retry=RetryPolicy(),
                registrant="user:1",
                detail=detail,
            )
            saved = _record(trigger_stream(trigger_id), TriggerSaved(trigger=trigger, next_due_at=following))
            return app_id, [saved, *([_tick(trigger_id, self._id(), following)] if b == 3 else [])]
        if (app_id, trigger_id) not in self.model.triggers:
            return NIL_APP, []
        if a == 3 and c == 0:
            return app_id, [_record(trigger_stream(trigger_id), TriggerDeleted(trigger_id=trigger_id))]
        return app_id, [_tick(trigger_id, None if a == 2 else self._id(), following), *(self._kv(a, b, c)[1] if c == 0 else [])]

    def _schedule(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        """A run for a time; some are taken back in the same unit."""
        execution_id = self._id()
        run_at = datetime.now(UTC) + timedelta(seconds=b)
        ask = ScheduleExecution(execution_id=execution_id, script_id=UUID(int=100 + b), run_at=run_at, payload=msgspec.Raw(b"[1]"))
        cancel = [Change(CancelExecution(execution_id=execution_id))] if c == 0 else []
        return APPS[a % 2], [Change(ask), *cancel, *(self._kv(a, b, c)[1] if c == 1 else [])]

    def _cancel(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        del c
        ready = [key for key, row in self.model.open.items() if key[1] not in self._spent and row.task.source == "schedule"]
        if not ready:
            return NIL_APP, []
        app_id, execution_id = ready[(4 * a + b) % len(ready)]
        self._spent.add(execution_id)
        return app_id, [Change(CancelExecution(execution_id=execution_id, lenient=True))]

    def _accept(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        execution_id = self._id()
        request = HttpRequest(method="POST", host="h", path="/", headers={}, query={}, params={}, rest=None, body=b"x" * (5000 if c == 2 else 1))
        event = HttpRequestAccepted(
            execution_id=execution_id, script_id=UUID(int=100 + b), route_id=UUID(int=1), mode="async", request=request, retry=RetryPolicy()
        )
        used = IdempotencyKeyUsed(execution_id=execution_id, request_hash="00", expires_at=LONG_AGO)
        return APPS[a % 2], [_record(execution_stream(execution_id), event), _record(idempotency_stream(f"{a}{b}{c}"), used)]

    def _outcome(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        ready = [key for key in self.model.open if key[1] not in self._spent]
        if not ready:
            return NIL_APP, []
        app_id, execution_id = ready[(4 * a + b) % len(ready)]
        row = self.model.open[app_id, execution_id]
        self._spent.add(execution_id)
        return app_id, [_record(execution_stream(execution_id), _outcome_of(row.task, row.attempt, a, b + c)), *(self._kv(a, b, c)[1] if c == 0 else [])]

    def _resolve(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        ready = [key for key in self.model.dead if key[1] not in self._spent]
        if not ready:
            return NIL_APP, []
        app_id, dead_letter_id = ready[(4 * a + b) % len(ready)]
        self._spent.add(dead_letter_id)
        replay = msgspec.structs.replace(self.model.dead[app_id, dead_letter_id], execution_id=self._id()) if c else None
        resolve = ResolveDeadLetter(dead_letter_id=dead_letter_id, resolution="replayed" if replay else "ignored", reason="why", replay=replay)
        changes = [Change(resolve)]
        if replay is not None and c == 2:
            changes.append(_record(execution_stream(replay.execution_id), _outcome_of(replay, 1, a, b)))
        return app_id, changes

    def _retain(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        before = datetime.now(UTC) - timedelta(milliseconds=(0, 5, 20, 100)[b])
        event = RetentionApplied(projection=("executions", "dead_letters", "abandoned")[c], before=before)
        return APPS[a % 2], [_record(retention_stream(event.projection), event)]

    def _abandon(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        execution_id = self._id()
        event = ExecutionAbandoned(execution_id=execution_id, script_id=UUID(int=100 + b), status=200)
        return APPS[a % 2], [_record(execution_stream(execution_id), event)]

    def _app(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        slug = f"app-{b}"
        changes: list[Change] = []
        if a == 3 and ("slug", b) in self._owners:
            same = self._owners["slug", b]
            return NIL_APP, [_record(app_stream(same), AppChanged(app_id=same, name=f"Renamed {c}", slug=slug, old_slugs=(f"old-{b}",) * (c > 0)))]
        owner = self._owners.pop(("slug", b), None)
        if owner is not None:
            changes = [_record(app_stream(owner), AppDeleted(app_id=owner, slug=slug)), release_name("slug", slug, owner)]
            # Sometimes an app is purged with the next that is deleted.
            ended = owner if self._unpurged is None else self._unpurged
            changes += [_record(app_stream(ended), AppPurged(app_id=ended))] if a else []
            self._unpurged = None if a else owner
        if owner is None or c:
            owner = self._owners["slug", b] = self._id()
            changes += [_record(app_stream(owner), AppCreated(app_id=owner, name=f"App {a}", slug=slug)), claim_name("slug", slug, owner)]
        return NIL_APP, changes

    def _domain(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        domain_id = UUID(int=400 + 10 * (a % 2) + b)
        change = DomainRemoved if c == 2 else DomainAdded
        return NIL_APP, [_record(domain_stream(domain_id), change(domain_id=domain_id, app_id=APPS[a % 2], pattern=f"{b}.example.com"))]

    def _user(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        name = f"User{b}"
        changes: list[Change] = []
        owner = self._owners.get(("user", b))
        if owner is not None and a > 1:
            name = name.upper() if c else name
            changed = UserChanged(user_id=owner, username=name, email=f"{c}@b.de", active=c > 0, credential_id=self._id(), session_epoch=c)
            return NIL_APP, [_record(user_stream(owner), changed)] * (a - 1)
        if owner is not None:
            del self._owners["user", b]
            changes = [_record(user_stream(owner), UserDeleted(user_id=owner, username=name)), release_name("user", name, owner)]
        if owner is None or c:
            owner = self._owners["user", b] = self._id()
            changes += [_record(user_stream(owner), UserCreated(user_id=owner, username=name)), claim_name("user", name, owner)]
        return NIL_APP, changes

    def _member(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        """Roles of users in apps, whether or not these are there; now and then one of both goes, or is told of out of turn."""
        app_id, user_id, role = UUID(int=600 + a % 2), UUID(int=700 + b % 3), ROLES[c]
        events: list[Event] = [
            MemberAdded(app_id=app_id, user_id=user_id, role=role),
            MemberRoleChanged(app_id=app_id, user_id=user_id, role=role, replaces="viewer"),
            MemberRemoved(app_id=app_id, user_id=user_id, role=role),
            UserDeleted(user_id=user_id, username="x") if c else AppDeleted(app_id=app_id, slug="x"),
        ]
        stream = member_stream(app_id, user_id)
        chosen = [events[0]] if a == 3 else [events[self._random.randrange(4)] for _ in range(1 + self._random.randrange(3))]
        return NIL_APP, [_record(stream if event is not events[3] else user_stream(user_id) if c else app_stream(app_id), event) for event in chosen]

    def _api_key(self, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
        """Keys that begin, and end in each of the ways."""
        key_id, user_id, app_id = UUID(int=800 + 10 * a + b), UUID(int=700 + a), None if c else UUID(int=600)
        events: list[Event] = [
            ApiKeyCreated(key_id=key_id, user_id=user_id, name="k", prefix="pic_", scopes=("script:read", "log:read"), app_id=app_id, expires_at=LONG_AGO),
            ApiKeyRevoked(key_id=key_id, user_id=user_id),
            UserChanged(user_id=user_id, username=f"key-{a}", email=None, instance_role="member", active=c == 2),
            AppDeleted(app_id=UUID(int=600), slug="x"),
        ]
        streams = (api_key_stream(key_id), api_key_stream(key_id), user_stream(user_id), app_stream(UUID(int=600)))
        chosen = [0] if a == 3 else [self._random.choice((0, 0, 1, 2, 3)) for _ in range(1 + self._random.randrange(3))]
        return NIL_APP, [_record(streams[number], events[number]) for number in chosen]


def _secret(history: History, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
    name, value_id = f"s{b}", UUID(int=500 + a)
    effects: list[Effect] = [
        SetSecret(name=name, value_id=value_id),
        DeleteSecret(name=name),
        RotateSecret(name=name, value_id=value_id, key_id="k"),
    ]
    del history
    return APPS[a % 2], [Change(effects[c]), *([Change(effects[0])] if b == 3 else [])]


def _settings(history: History, a: int, b: int, c: int) -> tuple[UUID, list[Change]]:
    del history
    if c == 2:
        event: Event = InstanceSettingsChanged(settings=InstanceSettings(control_plane=KeyLimits(requests_per_minute_per_key=b + 1)))
        return NIL_APP, [_record(SETTINGS, event)]
    settings = AppSettings(limits=RateLimits(requests_per_minute=b + 1), server_timing=bool(c))
    return APPS[a % 2], [_record(SETTINGS, AppSettingsChanged(settings=settings))]


STEPS: dict[str, Callable[[History, int, int, int], tuple[UUID, list[Change]]]] = {
    "kv": History._kv,
    "publish": History._publish,
    "topic": History._topic,
    "docs": History._docs,
    "file": History._file,
    "script": History._script,
    "route": History._route,
    "trigger": History._trigger,
    "cron": History._cron,
    "schedule": History._schedule,
    "cancel": History._cancel,
    "accept": History._accept,
    "outcome": History._outcome,
    "resolve": History._resolve,
    "retain": History._retain,
    "abandon": History._abandon,
    "app": History._app,
    "domain": History._domain,
    "user": History._user,
    "member": History._member,
    "api_key": History._api_key,
    "secret": _secret,
    "settings": _settings,
}

_FREQUENT = ("kv", "kv", "file", "trigger", "cron", "schedule", "outcome", "outcome", "outcome", "resolve", "accept")
steps = st.tuples(st.sampled_from((*_FREQUENT, *STEPS)), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2))
histories = st.lists(st.lists(steps, min_size=1, max_size=8), min_size=1, max_size=16)
"""Batches of steps."""


def _record(stream: str, event: Event) -> Change:
    return Change(Record(name=stream, event=event))


def _tick(trigger_id: UUID, execution_id: UUID | None, following: datetime | None) -> Change:
    """A tick that runs, or without an execution one that is skipped."""
    now = datetime.now(UTC)
    common: dict[str, Any] = {"trigger_id": trigger_id, "schedule": "* * * * * *", "timezone": "UTC", "scheduled_at": now, "fired_at": now}
    event: Event = (
        TickSkipped(reason="overlap", next_due_at=following, **common)
        if execution_id is None
        else Ticked(script_id=UUID(int=100), execution_id=execution_id, next_due_at=following, **common)
    )
    return _record(cron_stream(trigger_id), event)


def _outcome_of(task: Task, attempt: int, a: int, how: int) -> Event:
    now = datetime.now(UTC)
    match how:
        case 0:
            reply = Reply(200, {}, b"ok")
            return ExecutionSucceeded(task=task, script_version=a, attempt=attempt, started_at=now, duration_ms=1.5, reply=reply)
        case 1:
            again = now + timedelta(seconds=a)
            return ExecutionFailed(
                task=task,
                attempt=attempt,
                reason="raised",
                error=ERROR,
                first_attempt_at=now,
                started_at=now,
                duration_ms=2,
                retry_at=again,
                next_attempt=attempt + 1,
            )
        case 2:
            return ExecutionFailed(task=task, attempt=attempt, reason="raised", error=ERROR, first_attempt_at=now, started_at=now, duration_ms=2)
        case 3 | 4:
            return ExecutionDeadLettered(task=task, attempts=attempt, reason="raised", error=ERROR, first_attempt_at=now, last_attempt_at=now, duration_ms=0.1)
        case _:
            return ExecutionSkipped(task=task, reason="depth")
