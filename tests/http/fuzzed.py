"""Schemathesis against a served PiCloud: an owner's session, things that exist, and a report that says which call broke which promise."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx
import msgspec
import schemathesis
from schemathesis.engine import StopReason, events, from_schema

from domain.ids import parse_uuid

OWNER: Final = {"username": "admin", "password": "correct horse battery"}
API: Final = "/api/v1/admin"
SCHEMA: Final = "/api/v1/schema"
SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "0"))
"""How long to go on; 0 is the suite's run, which sends the same requests each time."""

_EXAMPLES: Final = 4
_MOST_S: Final = 150.0
"""Only against a run that hangs: the suite's ends by itself, in a third of it on two cores that do nothing else."""
_SCRIPT: Final = "def handler(ctx):\n    return 1\n"
_LIKELY: Final = 0.7
_STREAM: Final = "text/event-stream"
_SHARED: Final = r"(:find|:publish|/docs/\{collection\}|/topics/\{name\}|/triggers/\{trigger\})$"
"""Where one route serves several documented paths, told apart by a suffix or a kind: what `Allow` names is the route's, not the path's."""
_ANY_METHOD: Final = "/api/v1/execute/"
"""Scripts are asked by whatever method a caller likes, `TRACE` too; the document has those that people use."""
_NO_BUILT_IN: Final[Mapping[str, str]] = {
    "positive_data_acceptance": "what a request means is judged beyond its shape: a slug may be taken, a cursor another list's",
}

Things = dict[str, list[Any]]
"""For each name of a parameter or field, values of it that exist."""


class Broken(msgspec.Struct, frozen=True):
    """A promise of the document that an answer broke: which check says so, and a request that shows it."""

    operation: str
    check: str
    message: str
    request: str

    def __str__(self) -> str:
        return f"{self.operation}: {self.check}\n  {self.message[:600]}\n  {self.request[:1200]}"


class Report(msgspec.Struct):
    """What came of a run. `answers` counts statuses by operation; `errors` are schemathesis' own, which mostly blame the document.

    `complete`: it was not cut short because its time was up.
    """

    answers: dict[str, Counter[int]] = msgspec.field(default_factory=dict)
    broken: dict[tuple[str, str, str], Broken] = msgspec.field(default_factory=dict)
    errors: list[str] = msgspec.field(default_factory=list)
    complete: bool = False

    @property
    def verdict(self) -> str:
        """Everything that is wrong; empty when nothing is."""
        return "\n\n".join([*self.errors, *map(str, self.broken.values())])

    def never_done(self) -> list[str]:
        """The operations that have not once done what they are for."""
        return sorted(operation for operation, statuses in self.answers.items() if not any(200 <= status < 300 for status in statuses))

    def summary(self) -> str:
        """What was asked, in a line."""
        requests = sum(sum(statuses.values()) for statuses in self.answers.values())
        cut = "" if self.complete else " (cut short)"
        return f"{requests} requests of {len(self.answers)} operations{cut}; never done: {', '.join(self.never_done()) or 'none'}"

    def add(self, event: events.EngineEvent) -> None:
        """Note what an event of the engine tells."""
        if isinstance(event, events.NonFatalError):
            self.errors.append(f"{event.label}: {event.value}")
        elif isinstance(event, events.FatalError):
            self.errors.append(f"schemathesis: {event.exception!r}")
        elif isinstance(event, events.EngineFinished):
            self.complete = event.stop_reason is StopReason.COMPLETED
        elif isinstance(event, events.ScenarioFinished):
            self._add_scenario(event)

    def _add_scenario(self, event: events.ScenarioFinished) -> None:
        recorder = event.recorder
        for case_id, interaction in recorder.interactions.items():
            node = recorder.cases.get(case_id)
            if node is not None and interaction.response is not None:
                self.answers.setdefault(node.value.operation.label, Counter())[interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    failure, sample = check.failure_info.failure, check.failure_info.code_sample
                    found = Broken(recorder.cases[case_id].value.operation.label, check.name, failure.message, sample)
                    self.broken.setdefault((found.operation, found.check, failure.title), found)


@contextmanager
def logged_in(url: str) -> Iterator[httpx.Client]:
    """The owner's client of the control plane, from an address of its own: the fuzzer logs in wrongly until its own is throttled."""
    with httpx.Client(base_url=f"{url}{API}", timeout=20, transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
        client.headers["authorization"] = f"Bearer {new_token(client)}"
        yield client


def new_token(client: httpx.Client) -> str:
    """A session of the owner's."""
    token: str = client.post("auth/login", json=OWNER).raise_for_status().json()["token"]
    return token


def seed(client: httpx.Client) -> Things:
    """An app with something of everything in it."""
    app = _made(client, "apps", {"name": "Seeded", "slug": "seeded"})
    scripts = [_made(client, "scripts", {"app_id": app, "name": f"s{number}", "source": _SCRIPT}) for number in range(4)]
    kv = [{"script_id": scripts[0], "collection_glob": f"c{number}"} for number in range(3)]
    later = {"script_id": scripts[0], "run_at": "2099-01-01T00:00:00Z"}
    for key in "abc":
        client.put(f"apps/{app}/kv/things/{key}", json={"value": {"n": 1}}).raise_for_status()
        client.put(f"apps/{app}/docs/things/{key}", json={"data": {"n": 1}}).raise_for_status()
        client.put(f"apps/{app}/secrets/{key.upper()}", json={"value": "a long secret"}).raise_for_status()
    client.post(f"apps/{app}/topics", json={"name": "news", "external_subscribable": True}).raise_for_status()
    files = [client.post(f"apps/{app}/files/things", files={"file": ("a.txt", b"hello", "text/plain")}).json()["id"] for _ in range(4)]
    people = [_made(client, "admins", {"username": f"u{number}", "password": OWNER["password"], "instance_role": "member"}) for number in range(4)]
    for person in people[:3]:
        client.post(f"apps/{app}/members", json={"user_id": person, "role": "viewer"}).raise_for_status()
    keys = [_made(client, "api-keys", {"name": f"k{number}", "scopes": ["log:read"]}) for number in range(3)]
    new_token(client)
    return {
        "user": people,
        "user_id": people,
        "session_id": [each["id"] for each in client.get("auth/sessions").json()["items"] if not each["current"]],
        "app": [app, "seeded"],
        "app_id": [app],
        "script": scripts,
        "script_id": scripts,
        "route": [_made(client, f"scripts/{scripts[0]}/routes", {"path": f"/r{number}"}) for number in range(4)],
        "trigger": [_made(client, f"apps/{app}/triggers/kv", each) for each in kv],
        "execution": [_made(client, f"apps/{app}/executions", later, "execution_id") for _ in range(4)],
        "collection": ["things"],
        "key": ["a", "b", "c", *keys],
        "id": ["a", "b", "c"],
        "name": ["news", "A", "B", "C"],
        "file_id": files,
        "position": [1, 2],
        "number": [1],
        "source": [_SCRIPT],
        "username": [f"fuzz-{number}" for number in range(8)],
        "password": [OWNER["password"]],
        "slug": [f"fuzz-{number}" for number in range(8)],
    }


def run(url: str, client: httpx.Client, document: dict[str, Any], things: Things) -> Report:
    """Ask everything that the document offers, rightly and wrongly, and check every answer against it."""
    config = schemathesis.Config.from_dict(_config(url, things))
    schema = schemathesis.openapi.from_dict(_with_examples(document, things), config=config).exclude(func=_is_stream)

    @schema.auth()  # asks for another session when one has ended: the fuzzer logs out, too
    class Auth:
        def get(self, case: Any, context: Any) -> str:
            return new_token(client)

        def set(self, case: Any, data: str, context: Any) -> None:
            case.headers["Authorization"] = f"Bearer {data}"

    report = Report()
    for event in from_schema(schema).execute():
        report.add(event)
    return report


def _made(client: httpx.Client, path: str, body: dict[str, Any], name: str = "id") -> str:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    made: str = answer.json()[name]
    return made


def _config(url: str, things: Things) -> dict[str, Any]:
    return {
        "seed": 1,
        "base-url": url,
        "max-time": int(SECONDS or _MOST_S),
        "continue-on-failure": True,
        "request-timeout": 30,
        "max-redirects": 0,
        "generation": {"deterministic": not SECONDS, "database": "none", "max-examples": 50 if SECONDS else _EXAMPLES},
        "dictionaries": {name: {"values": values} for name, values in things.items()},
        "parameters": {f"{place}.{name}": {"dictionary": name, "probability": _LIKELY} for name in things for place in ("path", "query", "body")},
        "checks": {check: {"enabled": False} for check in _NO_BUILT_IN},
        "operations": [
            {"include-path-regex": _SHARED, "checks": {"allow_header_conformance": {"enabled": False}}},
            {"include-path-regex": _ANY_METHOD, "checks": {"unsupported_method": {"enabled": False}}},
        ],
        "phases": {"fuzzing": {"extra-data-sources": {"responses": bool(SECONDS)}}, "stateful": {"enabled": bool(SECONDS)}},
    }


def _with_examples(document: dict[str, Any], things: Things) -> dict[str, Any]:
    """The document with values that exist as its examples: so not all that is tried misses."""
    copy: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    for operations in copy["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if fitting := _fitting(parameter["schema"], things.get(parameter["name"], [])):
                    parameter["examples"] = {str(fitting[0]): {"value": fitting[0]}}
    for schema in copy["components"]["schemas"].values():
        for name, member in schema.get("properties", {}).items():
            if fitting := _fitting(member, things.get(name, [])):
                member["examples"] = fitting[:1]
    return copy


def _fitting(schema: dict[str, Any], values: list[Any]) -> list[Any]:
    """Of values of a name those that can stand here: ids where ids are asked for."""
    return [value for value in values if schema.get("format") != "uuid" or parse_uuid(str(value)) is not None] if "type" in schema else []


def _is_stream(context: Any) -> bool:
    """Streams end only when their readers go; they have tests of their own."""
    return any(_STREAM in response.get("content", ()) for response in context.operation.definition.raw["responses"].values())
