"""Every script of `tests/examples` is uploaded and does what it says."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.repo.instance import AppClient, until
from tests.served import ROOT

EXAMPLES = ROOT / "tests/examples"


def upload(app: AppClient, name: str, kind: str = "endpoint") -> str:
    return app.upload(name, (EXAMPLES / f"{name}.monty").read_text(), kind)


def test_every_example_is_tried_and_listed() -> None:
    here = (ROOT / "tests/repo/test_examples.py").read_text()
    listed = (EXAMPLES / "README.md").read_text()
    names = [path.stem for path in EXAMPLES.glob("*.monty")]
    assert len(names) > 7
    for name in names:
        assert f'upload(app, "{name}"' in here
        assert f"({name}.monty)" in listed


def test_counter(app: AppClient) -> None:
    app.route(upload(app, "counter"), "/count/:name", path_kind="param")
    assert app.caller.get("/count/tea").json() == {"name": "tea", "count": 0}
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: app.caller.post("/count/tea").status_code, range(24)))
    assert answers == [204] * 24
    assert app.caller.get("/count/tea").json() == {"name": "tea", "count": 24}


def test_shorten(app: AppClient) -> None:
    script = upload(app, "shorten")
    app.route(script, "/links", method="POST")
    app.route(script, "/links/:code", path_kind="param", method="GET")
    app.route(script, "/to/:code", path_kind="param", method="GET")
    made = app.caller.post("/links", json={"url": "https://example.com/a?b=c"})
    assert made.status_code == 201
    code = made.json()["code"]
    assert made.headers["location"] == f"/to/{code}"
    followed = app.caller.get(f"/to/{code}")
    assert (followed.status_code, followed.headers["location"]) == (302, "https://example.com/a?b=c")
    assert app.caller.get(f"/links/{code}").json() == {"code": code, "url": "https://example.com/a?b=c", "clicks": 1}
    assert app.caller.get("/to/nothing").status_code == 404
    refused: list[Any] = [{"url": "javascript:alert(1)"}, {"url": 5}, {}, []]
    for wrong in refused:
        assert app.caller.post("/links", json=wrong).status_code == 422
    assert app.entries("links") == {code: "https://example.com/a?b=c"}


def test_todo(app: AppClient) -> None:
    script = upload(app, "todo")
    app.route(script, "/todos")
    app.route(script, "/todos/:id", path_kind="param")
    with ThreadPoolExecutor(8) as callers:
        made = list(callers.map(lambda n: app.caller.post("/todos", json={"title": f"thing {n}"}), range(12)))
    assert [answer.status_code for answer in made] == [201] * 12
    assert {answer.json()["id"] for answer in made} == {str(n) for n in range(1, 13)}
    assert app.caller.put("/todos/1", json={"title": "one", "done": True}).json() == {"id": "1", "title": "one", "done": True}
    assert app.caller.get("/todos/1").json()["done"] is True
    assert app.caller.delete("/todos/2").status_code == 204
    assert len(app.caller.get("/todos").json()["items"]) == 11
    gone = app.caller.get("/todos/2")
    assert (gone.status_code, gone.json()) == (404, {"error": "there is no todo 2"})
    assert app.caller.post("/todos", json={"title": ""}).status_code == 422
    refused = app.caller.patch("/todos/1")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, PUT, DELETE")


def test_limiter(app: AppClient) -> None:
    app.route(upload(app, "limiter"), "/limited", method="GET")
    answers = [app.caller.get("/limited", headers={"x-client": "ada"}) for _ in range(8)]
    passed = [answer.json()["left"] for answer in answers if answer.status_code == 200]
    # A minute may have turned between two of them, and then there are three places again.
    assert passed[0] == 2
    assert all(following in {before - 1, 2} for before, following in itertools.pairwise(passed))
    assert 3 <= len(passed) <= 6
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(passed) + len(refused) == 8
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert app.caller.get("/limited", headers={"x-client": "bob"}).json() == {"left": 2}
    assert all(item["expires_at"] for item in app.read("kv/used")["items"])


def test_webhook(app: AppClient) -> None:
    app.route(upload(app, "webhook"), "/hooks/:sender", path_kind="param", method="POST", dispatch_mode="async")

    def deliver(body: Any, key: str | None = None) -> httpx.Response:
        answer = app.caller.post("/hooks/shop", json=body, headers={} if key is None else {"idempotency-key": key})
        assert answer.status_code == 202, answer.text
        return answer

    def outcome(answer: httpx.Response) -> Any:
        standing = until(lambda: app.caller.get(answer.headers["location"]).json(), lambda found: found["status"] == "succeeded")
        return standing["response"]["status"], standing["response"]["body"]

    first = deliver({"id": "a1", "sum": 5}, key="k1")
    again = deliver({"id": "a1", "sum": 5}, key="k1")
    assert again.json() == first.json()
    assert outcome(first) == (200, {"stored": True})
    assert outcome(deliver({"id": "a1", "sum": 5})) == (200, {"stored": False})
    assert outcome(deliver({"sum": 5}))[0] == 422
    assert app.entries("deliveries") == {"shop/a1": {"payload": {"id": "a1", "sum": 5}, "execution": first.json()["execution_id"]}}


def test_history(app: AppClient) -> None:
    app.trigger("kv", upload(app, "history"), collection_glob="prices")
    app.put("prices", "tea", 3)
    app.put("prices", "tea", 5)
    app.delete("prices", "tea")
    history = until(lambda: app.entries("history"), lambda found: len(found) == 3)
    lines = [history[key] for key in sorted(history)]
    assert [(line["op"], line["from"], line["to"]) for line in lines] == [("insert", None, 3), ("update", 3, 5), ("delete", 5, None)]
    positions = [line["position"] for line in lines]
    assert positions == [event["position"] for event in app.read("events?stream=kv:prices:tea")["items"]]


def test_alert(app: AppClient) -> None:
    app.trigger("dead_letter", upload(app, "alert"))
    failing = app.upload("failing", "def handler(ctx):\n    raise ValueError('no paper')\n")
    app.trigger("kv", failing, collection_glob="jobs", retry={"max_attempts": 2, "base_ms": 10})
    app.put("jobs", "print", {})
    alerts = until(lambda: app.entries("alerts"), bool)
    assert list(alerts.values()) == [{"source": "kv", "attempts": 2, "error": "ValueError: no paper"}]
    (letter,) = app.read("dead_letters")["items"]
    assert letter["id"] in alerts
    assert (letter["script_id"], letter["resolution"]) == (failing, "handled_by_script")
    assert app.read("dead_letters?unresolved=true")["items"] == []


def test_a_module_and_a_script_that_imports_it(app: AppClient) -> None:
    upload(app, "forms", kind="module")
    app.route(upload(app, "register"), "/registrations", method="POST")

    def register(body: Any) -> tuple[int, Any]:
        answer = app.caller.post("/registrations", json=body)
        return answer.status_code, answer.json()

    assert register({"guests": 1}) == (422, {"error": "name is missing"})
    assert register({"name": "Ada", "guests": "one"}) == (422, {"error": "guests is not a number"})
    assert register({"name": "Ada", "guests": 0}) == (201, {"name": "Ada", "places": 1})
    assert register({"name": "Ada", "guests": 0}) == (409, {"error": "Ada is registered already"})
    assert register({"name": "Bob", "guests": 1}) == (409, {"error": "only 1 places are left"})
    assert app.entries("registered") == {"Ada": 0}
