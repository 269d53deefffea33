from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.http.admin_support import (
    API,
    BAD_CURSORS,
    ENDPOINT,
    NO_IDS,
    UNKNOWN_ID,
    heads,
    make_app,
    make_route,
    make_script,
    nested,
    nothing_changes,
    refused,
    send,
)

pytestmark = pytest.mark.anyio

UTIL = "def add(a: int, b: int) -> int:\n    return a + b\n"
USES_UTIL = "import util\n\ndef handler(ctx):\n    return util.add(1, 2)\n"


async def test_a_script_is_created_read_changed_and_deleted(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    answer = await owner.post(f"{API}/scripts", json={"app_id": "one", "name": "Main page", "source": ENDPOINT})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made == {
        "id": made["id"],
        "app_id": app,
        "name": "Main page",
        "kind": "endpoint",
        "source": ENDPOINT,
        "version": 1,
        "timeout_seconds": 10.0,
        "limits": {"memory_mib": 64, "host_calls": 1000, "output_bytes": 1024 * 1024, "recursion": 200},
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert (await owner.get(f"{API}/scripts/{made['id']}")).json() == made
    changed = (await owner.put(f"{API}/scripts/{made['id']}", json={"source": ENDPOINT + "\n", "timeout_seconds": 5, "limits": {"host_calls": 7}})).json()
    assert (changed["version"], changed["timeout_seconds"], changed["name"]) == (2, 5.0, "Main page")
    assert changed["limits"] == made["limits"] | {"host_calls": 7}
    assert changed["created_at"] == made["created_at"] < changed["updated_at"]
    assert (await owner.get(f"{API}/scripts/{made['id']}")).json() == changed
    assert (await owner.delete(f"{API}/scripts/{made['id']}")).status_code == 204
    refused(await owner.get(f"{API}/scripts/{made['id']}"), 404)
    refused(await owner.delete(f"{API}/scripts/{made['id']}"), 404)
    await make_script(owner, app, "main PAGE")


async def test_a_change_that_changes_nothing_appends_nothing(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    async with nothing_changes(connection):
        answer = await owner.put(f"{API}/scripts/{script}", json={"name": "main", "source": ENDPOINT, "limits": {}})
        assert answer.status_code == 200
        assert answer.json()["version"] == 1
        assert (await owner.put(f"{API}/scripts/{script}", json={})).status_code == 200


async def test_each_source_is_kept_as_a_version(owner: httpx.AsyncClient) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    for number in range(2, 5):
        assert (await owner.put(f"{API}/scripts/{script}", json={"source": ENDPOINT + "\n" * number})).status_code == 200
    assert (await owner.put(f"{API}/scripts/{script}", json={"timeout_seconds": 3})).json()["version"] == 4
    first = (await owner.get(f"{API}/scripts/{script}/versions", params={"limit": 3})).json()
    assert [item["version"] for item in first["items"]] == [4, 3, 2]
    second = (await owner.get(f"{API}/scripts/{script}/versions", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [item["version"] for item in second["items"]] == [1]
    assert second["next_cursor"] is None
    one = (await owner.get(f"{API}/scripts/{script}/versions/1")).json()
    assert one["source"] == ENDPOINT
    for nowhere in ("0", "5", "-1", "x", "1e3", "99999999999", "%C2%B2"):
        refused(await owner.get(f"{API}/scripts/{script}/versions/{nowhere}"), 404)


async def test_scripts_are_listed_in_pages_by_app(owner: httpx.AsyncClient) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    made = [await make_script(owner, one, f"s{number}") for number in range(3)]
    other = await make_script(owner, two)
    first = (await owner.get(f"{API}/scripts", params={"app": "one", "limit": 2})).json()
    assert [item["id"] for item in first["items"]] == made[:2]
    assert "source" not in first["items"][0]
    second = (await owner.get(f"{API}/scripts", params={"app": one, "limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in second["items"]] == made[2:]
    everything = (await owner.get(f"{API}/scripts")).json()
    assert [item["id"] for item in everything["items"]] == [*made, other]


async def test_an_invalid_source_is_refused_with_its_places(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    async with nothing_changes(connection):
        answer = await owner.post(f"{API}/scripts", json={"app_id": app, "name": "b", "source": "def handler(ctx):\n    return 1 +\n"})
        (finding,) = refused(answer, 422, "script_invalid", "source")["diagnostics"]
        assert (finding["line"], finding["severity"]) == (2, "error")
        assert finding["column"] > 1
        answer = await owner.put(f"{API}/scripts/{script}", json={"source": "def handler(ctx):\n    return kv.nope()\n"})
        assert refused(answer, 422, "script_invalid")["diagnostics"][0]["line"] == 2
        answer = await owner.put(f"{API}/scripts/{script}", json={"source": "import nothing\ndef handler(ctx):\n    return 1\n"})
        assert refused(answer, 422, "script_invalid")["diagnostics"][0]["line"] == 1
        refused(await owner.put(f"{API}/scripts/{script}", json={"source": ""}), 422, "script_invalid")


async def test_a_source_is_checked_without_being_stored(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await make_script(owner, app, "util", UTIL, kind="module")
    async with nothing_changes(connection):
        good = await owner.post(f"{API}/scripts:check", json={"app_id": app, "kind": "endpoint", "source": USES_UTIL})
        assert (good.status_code, good.json()) == (200, {"diagnostics": []})
        bad = await owner.post(f"{API}/scripts:check", json={"app_id": app, "source": USES_UTIL.replace("2)", "'2')")})
        assert [(item["line"], item["severity"]) for item in bad.json()["diagnostics"]] == [(4, "error")]
        own = await owner.post(f"{API}/scripts:check", json={"app_id": app, "kind": "module", "name": "util", "source": "import util\n"})
        assert [item["code"] for item in own.json()["diagnostics"]] == ["import_cycle"]
        refused(await owner.post(f"{API}/scripts:check", json={"app_id": "nope", "source": UTIL}), 404, "app_not_found")
        refused(await owner.post(f"{API}/scripts:check", json={"app_id": app, "source": UTIL, "kind": "x"}), 422, field="$.kind")


async def test_names_are_unique_per_app_whatever_their_case(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    one, two = await make_app(owner, "one"), await make_app(owner, "two")
    script = await make_script(owner, one, "Straße")
    other = await make_script(owner, one, "b")
    await make_script(owner, two, "straße")
    async with nothing_changes(connection):
        refused(await owner.post(f"{API}/scripts", json={"app_id": one, "name": "STRASSE", "source": ENDPOINT}), 409, "duplicate_name", "name")
        refused(await owner.put(f"{API}/scripts/{other}", json={"name": "strasse"}), 409, "duplicate_name", "name")
    assert (await owner.put(f"{API}/scripts/{script}", json={"name": "strasse"})).json()["name"] == "strasse"
    assert (await owner.put(f"{API}/scripts/{script}", json={"name": "c"})).status_code == 200
    assert (await owner.put(f"{API}/scripts/{other}", json={"name": "Straße"})).status_code == 200


async def test_a_module_is_kept_from_breaking_its_importers(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    util = await make_script(owner, app, "util", UTIL, kind="module")
    middle = await make_script(owner, app, "middle", "import util\n\ndef twice(a: int) -> int:\n    return util.add(a, a)\n", kind="module")
    main = await make_script(owner, app, "main", "import middle\n\ndef handler(ctx):\n    return middle.twice(2)\n")
    async with nothing_changes(connection):
        broken = refused(
            await owner.put(f"{API}/scripts/{util}", json={"source": "def sub(a: int, b: int) -> int:\n    return a - b\n"}), 409, "breaks_importers"
        )
        assert [entry["name"] for entry in broken["importers"]] == ["middle"]
        assert broken["importers"][0]["diagnostics"][0]["line"] == 4
        cycle = refused(await owner.put(f"{API}/scripts/{util}", json={"source": "import middle\n" + UTIL}), 422, "script_invalid")
        assert cycle["diagnostics"][0]["code"] == "import_cycle"
        for change in ({"name": "tools"}, {"kind": "endpoint", "source": ENDPOINT}):
            assert refused(await owner.put(f"{API}/scripts/{util}", json=change), 409, "imported")["imported_by"] == [{"id": middle, "name": "middle"}]
        refused(await owner.delete(f"{API}/scripts/{util}"), 409, "imported")
    assert (await owner.put(f"{API}/scripts/{util}", json={"source": UTIL + "\ndef sub(a: int, b: int) -> int:\n    return a - b\n"})).status_code == 200
    for script in (main, middle, util):
        assert (await owner.delete(f"{API}/scripts/{script}")).status_code == 204


async def test_imports_may_not_nest_too_deeply(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    await make_script(owner, app, "m1", "X = 1\n", kind="module")
    for number in range(2, 9):
        await make_script(owner, app, f"m{number}", f"import m{number - 1}\n", kind="module")
    await make_script(owner, app, "deep", "import m8\n\ndef handler(ctx):\n    return 1\n")
    base = await make_script(owner, app, "base", "Y = 1\n", kind="module")
    await make_script(owner, app, "upon", "import base\n", kind="module")
    async with nothing_changes(connection):
        answer = await owner.post(f"{API}/scripts", json={"app_id": app, "name": "m9", "source": "import m8\n", "kind": "module"})
        assert refused(answer, 422, "script_invalid")["diagnostics"][0]["code"] == "import_depth"
        answer = await owner.put(f"{API}/scripts/{base}", json={"source": "import m7\n"})
        document = refused(answer, 409, "breaks_importers")
        assert [(entry["name"], entry["diagnostics"][0]["code"]) for entry in document["importers"]] == [("upon", "import_depth")]


async def test_a_script_with_routes_does_not_become_a_module(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app, "util", UTIL + ENDPOINT)
    route = await make_route(owner, script)
    async with nothing_changes(connection):
        document = refused(await owner.put(f"{API}/scripts/{script}", json={"kind": "module"}), 409, "in_use", "kind")
        assert document["routes"] == [route]
    assert (await owner.delete(f"{API}/routes/{route}")).status_code == 204
    assert (await owner.put(f"{API}/scripts/{script}", json={"kind": "module"})).json()["kind"] == "module"


async def test_deleting_a_script_deletes_its_routes_in_the_same_unit(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    route = await make_route(owner, script)
    assert (await owner.delete(f"{API}/scripts/{script}")).status_code == 204
    refused(await owner.delete(f"{API}/routes/{route}"), 404)
    rows = await connection.fetch("SELECT topic, metadata ->> 'unit_id' AS unit FROM events WHERE topic IN ('scripts.ScriptDeleted', 'routes.RouteDeleted')")
    assert len(rows) == 2
    assert len({row["unit"] for row in rows}) == 1
    await make_route(owner, await make_script(owner, app))


BAD_SCRIPTS: list[tuple[dict[str, Any], str | None]] = [
    ({"name": 1}, "$.name"),
    ({"name": ""}, "name"),
    ({"name": "a" * 65}, "name"),
    ({"name": " a"}, "name"),
    ({"name": "a\n"}, "name"),
    ({"name": "a\x00"}, "$.name"),
    ({"name": "e\u0301"}, "name"),
    ({"name": "kv", "kind": "module"}, "name"),
    ({"name": "json", "kind": "module"}, "name"),
    ({"name": "a-b", "kind": "module"}, "name"),
    ({"source": None}, "$.source"),
    ({"source": "#\x00"}, "$.source"),
    ({"source": nested(80)}, "$.source"),
    ({"kind": "library"}, "$.kind"),
    ({"timeout_seconds": "1"}, "$.timeout_seconds"),
    ({"timeout_seconds": 0}, "timeout_seconds"),
    ({"timeout_seconds": -1}, "timeout_seconds"),
    ({"timeout_seconds": 301}, "timeout_seconds"),
    ({"timeout_seconds": 1e308}, "timeout_seconds"),
    ({"limits": None}, "$.limits"),
    ({"limits": {"memory_mib": "64"}}, "$.limits.memory_mib"),
    ({"limits": {"memory_mib": 64.5}}, "$.limits.memory_mib"),
    ({"limits": {"memory_mib": 0}}, "limits.memory_mib"),
    ({"limits": {"memory_mib": 10**30}}, None),
    ({"limits": {"host_calls": True}}, "$.limits.host_calls"),
    ({"limits": {"disk": 1}}, "$.limits.disk"),
    ({"app_id": 7}, "$.app_id"),
    ({"surprise": 1}, "$.surprise"),
]


async def test_bad_scripts_are_refused(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    whole = {"app_id": app, "name": "x", "source": ENDPOINT}
    async with nothing_changes(connection):
        for change, field in BAD_SCRIPTS:
            refused(await send(owner, "POST", "/scripts", whole | change), 422, field=field)
            if "app_id" not in change:
                refused(await send(owner, "PUT", f"/scripts/{script}", change), 422, field=field)
        for left_out in whole:
            refused(await send(owner, "POST", "/scripts", {name: value for name, value in whole.items() if name != left_out}), 422, field=f"$.{left_out}")
        for unreadable in ({"timeout_seconds": float("nan")}, {"name": "\udc00"}, {"source": "#\ud800"}):
            refused(await send(owner, "POST", "/scripts", whole | unreadable), 400, "malformed")
        refused(await send(owner, "PUT", f"/scripts/{script}", {"app_id": app}), 422, field="$.app_id")


async def test_above_the_ceiling_is_refused_with_both_numbers(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    async with nothing_changes(connection):
        body = {"app_id": app, "name": "x", "source": ENDPOINT}
        answer = refused(await owner.post(f"{API}/scripts", json=body | {"limits": {"memory_mib": 257}}), 422, "above_ceiling", "limits.memory_mib")
        assert (answer["requested"], answer["ceiling"]) == (257, 256)
        answer = refused(await owner.post(f"{API}/scripts", json=body | {"timeout_seconds": 301}), 422, "above_ceiling", "timeout_seconds")
        assert (answer["requested"], answer["ceiling"]) == (301.0, 300.0)


async def test_what_is_no_script_is_missing(owner: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    async with nothing_changes(connection):
        for reference in NO_IDS:
            status = 400 if reference == "%00" else 404
            refused(await owner.get(f"{API}/scripts/{reference}"), status)
            refused(await owner.put(f"{API}/scripts/{reference}", json={}), status)
            refused(await owner.delete(f"{API}/scripts/{reference}"), status)
            refused(await owner.get(f"{API}/scripts/{reference}/versions"), status)
            refused(await owner.get(f"{API}/scripts/{reference}/logs"), status)
        refused(await owner.post(f"{API}/scripts", json={"app_id": UNKNOWN_ID, "name": "x", "source": ENDPOINT}), 404, "app_not_found")
        refused(await owner.get(f"{API}/scripts", params={"app": UNKNOWN_ID}), 404, "app_not_found")


async def test_malformed_cursors_are_refused(owner: httpx.AsyncClient) -> None:
    script = await make_script(owner, await make_app(owner, "one"))
    for cursor in BAD_CURSORS:
        for path in ("/scripts", f"/scripts/{script}/versions", f"/scripts/{script}/logs"):
            refused(await owner.get(API + path, params={"cursor": cursor}), 422, field="cursor")


async def test_the_anonymous_are_not_let_in(owner: httpx.AsyncClient, anonymous: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    app = await make_app(owner, "one")
    script = await make_script(owner, app)
    before = await heads(connection)
    refused(await anonymous.get(f"{API}/scripts/{script}"), 401)
    refused(await anonymous.delete(f"{API}/scripts/{script}"), 401)
    refused(await anonymous.post(f"{API}/scripts", json={"app_id": app, "name": "x", "source": ENDPOINT}), 401)
    assert await heads(connection) == before
