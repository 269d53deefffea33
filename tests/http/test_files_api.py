"""`apps/{app}/files` over HTTP: uploads and downloads, every wrong input, and what a browser must never do with a file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import asyncpg
import httpx
import msgspec
import pytest

from runtime.platform import Platform, open_platform
from runtime.settings import Files
from tests.http.admin_support import API, BAD_CURSORS, NO_IDS, UNKNOWN_ID, make_app, nothing_changes, refused
from tests.http.conftest import SETTINGS
from tests.runtime.world import eventually

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
MAX_FILE = 6 * MIB
BIG = os.urandom(3 * MIB + 7)
BOUNDARY = "xXx"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
async def core(dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """An instance with small files."""
    async with open_platform(dsn, msgspec.structs.replace(SETTINGS, data_dir=tmp_path, files=Files(max_file_bytes=MAX_FILE))) as platform:
        yield platform


@pytest.fixture
async def app(owner: httpx.AsyncClient) -> str:
    return await make_app(owner, "one")


def place(app: str, *parts: str) -> str:
    return "/".join([f"{API}/apps/{app}/files", *parts])


async def upload(client: httpx.AsyncClient, app: str, data: bytes, name: str = "a.txt", kind: str = "text/plain", collection: str = "c") -> dict[str, Any]:
    answer = await client.post(place(app, collection), files={"file": (name, data, kind)})
    assert answer.status_code == 201, answer.text
    meta: dict[str, Any] = answer.json()
    return meta


def part(name: str, data: bytes, *headers: str, filename: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return "\r\n".join((f"--{BOUNDARY}", disposition, *headers, "", "")).encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", b"abc", filename="a.txt")


async def test_a_file_is_uploaded_read_replaced_and_deleted(owner: httpx.AsyncClient, app: str) -> None:
    meta = await upload(owner, app, b"abc")
    checksum = sha256(b"abc").hexdigest()
    assert meta == {
        "collection": "c",
        "id": meta["id"],
        "name": "a.txt",
        "content_type": "text/plain",
        "size": 3,
        "checksum": checksum,
        "version": 1,
        "created_at": meta["created_at"],
        "updated_at": meta["created_at"],
    }
    path = place(app, "c", meta["id"])
    for reference in (app, "one"):
        assert (await owner.get(place(reference, "c", meta["id"]))).json() == meta
    answer = await owner.get(f"{path}/content")
    assert (answer.status_code, answer.content) == (200, b"abc")
    assert {name: answer.headers[name] for name in ("content-type", "content-length", "etag", "accept-ranges", "x-content-type-options")} == {
        "content-type": "text/plain",
        "content-length": "3",
        "etag": f'"{checksum}"',
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
    }
    assert answer.headers["content-disposition"] == 'attachment; filename="a.txt"'
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    replaced = (await owner.put(path, files={"file": ("b.txt", b"")}, data={"content_type": "a/b"})).json()
    assert (replaced["name"], replaced["content_type"], replaced["size"], replaced["version"]) == ("b.txt", "a/b", 0, 2)
    assert replaced["created_at"] == meta["created_at"] < replaced["updated_at"]
    assert (await owner.get(path)).json() == replaced
    assert (await owner.get(f"{path}/content")).content == b""
    assert (await owner.delete(path)).status_code == 204
    for method, target in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
        refused(await owner.request(method, target), 404, "not_found")
    refused(await owner.put(path, files={"file": ("b.txt", b"")}), 404, "not_found")


async def test_the_form_goes_before_the_part_and_the_file_before_the_form(owner: httpx.AsyncClient, app: str) -> None:
    name, kind = part("name", "ä.html".encode()), part("content_type", b"text/html")
    for body in (name + kind + FILE + END, FILE + name + kind + END, name + FILE + kind + END):
        meta = (await owner.post(place(app, "c"), content=body, headers=FORM)).json()
        assert (meta["name"], meta["content_type"], meta["size"]) == ("ä.html", "text/html", 3)
    meta = (await owner.post(place(app, "c"), content=FILE + END, headers=FORM)).json()
    assert (meta["name"], meta["content_type"]) == ("a.txt", "application/octet-stream")
    typed = part("file", b"abc", "Content-Type: text/css; charset=utf-8", filename="a.css")
    kept = (await owner.put(place(app, "c", meta["id"]), content=part("file", b"") + END, headers=FORM)).json()
    assert (kept["name"], kept["content_type"], kept["size"]) == ("a.txt", "application/octet-stream", 0)
    changed = (await owner.put(place(app, "c", meta["id"]), content=typed + END, headers=FORM)).json()
    assert (changed["name"], changed["content_type"]) == ("a.css", "text/css; charset=utf-8")


async def test_bytes_that_look_like_a_boundary_are_bytes(owner: httpx.AsyncClient, app: str) -> None:
    for data in (b"\r\n--xX", b"\r\n--", b"--xXx", b"\n--xXx--\r\n", b"\r\n" * 1000, b"\r" * 70_000):
        answer = await owner.post(place(app, "c"), content=part("file", data, filename="a") + END, headers=FORM)
        assert answer.status_code == 201, answer.text
        assert answer.json()["checksum"] == sha256(data).hexdigest()


async def test_lists_and_collections(owner: httpx.AsyncClient, app: str) -> None:
    made = [await upload(owner, app, b"%d" % number, collection=name) for name in ("b", "a", "ab%2F%3A") for number in range(3)]
    listed = (await owner.get(place(app))).json()
    assert listed == {"items": [{"collection": name, "files": 3} for name in ("a", "ab/:", "b")], "next_cursor": None}
    first = (await owner.get(place(app), params={"limit": "2"})).json()
    assert [item["collection"] for item in first["items"]] == ["a", "ab/:"]
    assert (await owner.get(place(app), params={"cursor": first["next_cursor"]})).json()["items"] == listed["items"][2:]
    page = (await owner.get(place(app, "b"), params={"limit": "2"})).json()
    assert page["items"] == made[:2]
    assert (await owner.get(place(app, "b"), params={"cursor": page["next_cursor"]})).json() == {"items": [made[2]], "next_cursor": None}
    assert (await owner.get(place(app, "none"))).json() == {"items": [], "next_cursor": None}
    for cursor in BAD_CURSORS[1:]:
        refused(await owner.get(f"{place(app, 'b')}?cursor={cursor}"), 422, field="cursor")
    for limit in ("0", "201", "x"):
        refused(await owner.get(place(app, "b"), params={"limit": limit}), 422, field="limit")


async def test_every_version_stays_readable(owner: httpx.AsyncClient, app: str) -> None:
    before = (await owner.get(f"{API}/apps/{app}/events")).json()["items"]
    start = before[-1]["position"] if before else 0
    meta = await upload(owner, app, b"one")
    path = place(app, "c", meta["id"])
    await upload(owner, app, b"other", collection="d")
    await owner.put(path, files={"file": ("b.txt", BIG, "a/b")})
    await owner.delete(path)
    history = (await owner.get(f"{API}/apps/{app}/history/files/c/{meta['id']}")).json()["items"]
    assert [(item["topic"], item["data"]["op"], item["version"]) for item in history] == [
        ("files.FileCreated", "create", 1),
        ("files.FileUpdated", "update", 2),
        ("files.FileDeleted", "delete", 3),
    ]
    created, updated, deleted = [item["position"] for item in history]
    assert (await owner.get(path, params={"at": str(created)})).json() == meta
    assert (await owner.get(path, params={"at": history[0]["recorded_at"]})).json() == meta
    assert (await owner.get(f"{path}/content", params={"at": str(created)})).content == b"one"
    assert (await owner.get(f"{path}/content", params={"at": str(updated)})).content == BIG
    second = (await owner.get(path, params={"at": str(updated)})).json()
    assert (second["name"], second["version"], second["created_at"]) == ("b.txt", 2, meta["created_at"])
    for at in (start, deleted):
        for target in (path, f"{path}/content"):
            refused(await owner.get(target, params={"at": str(at)}), 404)
    assert (await owner.get(place(app, "c"), params={"at": str(updated)})).json() == {"items": [second], "next_cursor": None}
    assert (await owner.get(place(app, "c"), params={"at": str(deleted)})).json()["items"] == []
    assert (await owner.get(place(app), params={"at": str(updated)})).json()["items"] == [{"collection": "c", "files": 1}, {"collection": "d", "files": 1}]
    assert (await owner.get(place(app), params={"at": str(created)})).json()["items"] == [{"collection": "c", "files": 1}]
    for at in ("x", "-1", str(deleted + 1000), (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")):
        for target in (place(app), place(app, "c"), path, f"{path}/content"):
            refused(await owner.get(target, params={"at": at}), 422, field="at")


async def test_pages_of_the_past_go_on_where_they_ended(owner: httpx.AsyncClient, app: str) -> None:
    made = [await upload(owner, app, b"%d" % number) for number in range(5)]
    head = (await owner.get(f"{API}/apps/{app}/events")).json()["items"][-1]["position"]
    for meta in made:
        await owner.delete(place(app, "c", meta["id"]))
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await owner.get(place(app, "c"), params={"at": str(head), "limit": "2", **cursor})).json()
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == made


@pytest.mark.parametrize("data", [b"0123456789", BIG], ids=len)
async def test_ranges(owner: httpx.AsyncClient, app: str, data: bytes) -> None:
    meta = await upload(owner, app, data)
    path, size = f"{place(app, 'c', meta['id'])}/content", len(data)
    for asked, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=2-4", 2, 5),
        ("bytes=5-", 5, size),
        ("bytes=-3", size - 3, size),
        (f"bytes=0-{size * 2}", 0, size),
        (f"bytes=-{size * 2}", 0, size),
        (f"bytes={size - 1}-", size - 1, size),
        ("BYTES= 1-2", 1, 3),
    ):
        answer = await owner.get(path, headers={"range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (206, f"bytes {start}-{stop - 1}/{size}"), asked
        assert answer.content == data[start:stop]
        assert answer.headers["content-length"] == str(stop - start)
    for asked in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
        answer = await owner.get(path, headers={"range": asked})
        refused(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{size}"
    for ignored in ("bytes=", "bytes=-", "bytes=4-2", "bytes=0-1,3-4", "lines=0-1", "bytes 0-1", "bytes=a-b", "bytes=" + "9" * 5000 + "-", "bytes=1-2x"):
        answer = await owner.get(path, headers={"range": ignored})
        assert (answer.status_code, answer.content) == (200, data), ignored
    for condition, status in ((meta["checksum"], 200), (f'"{meta["checksum"]}"', 206), (f'W/"{meta["checksum"]}"', 200), ('"x"', 200)):
        answer = await owner.get(path, headers={"range": "bytes=0-0", "if-range": condition})
        assert answer.status_code == status, condition


async def test_an_empty_file_has_no_ranges(owner: httpx.AsyncClient, app: str) -> None:
    path = f"{place(app, 'c', (await upload(owner, app, b''))['id'])}/content"
    assert (await owner.get(path)).content == b""
    for asked in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        refused(await owner.get(path, headers={"range": asked}), 416)


async def test_what_the_caller_has_is_not_sent_again(owner: httpx.AsyncClient, app: str) -> None:
    meta = await upload(owner, app, b"abc")
    path, tag = f"{place(app, 'c', meta['id'])}/content", f'"{meta["checksum"]}"'
    for same in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = await owner.get(path, headers={"if-none-match": same, "range": "bytes=9-"})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in answer.headers
    for other in ('"x"', meta["checksum"], ""):
        assert (await owner.get(path, headers={"if-none-match": other})).status_code == 200


async def test_head_tells_what_get_would(owner: httpx.AsyncClient, app: str) -> None:
    meta = await upload(owner, app, BIG)
    path = place(app, "c", meta["id"])
    assert (await owner.head(path)).status_code == 200
    answer = await owner.head(f"{path}/content")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(len(BIG)), b"")
    answer = await owner.head(f"{path}/content", headers={"range": "bytes=1-2"})
    assert (answer.status_code, answer.headers["content-range"]) == (206, f"bytes 1-2/{len(BIG)}")
    assert (await owner.head(f"{path}/content", headers={"range": f"bytes={len(BIG)}-"})).status_code == 416
    assert (await owner.head(place(app, "c", UNKNOWN_ID))).status_code == 404


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('a "quoted" \\ name.txt', "attachment; filename=\"a _quoted_ _ name.txt\"; filename*=UTF-8''a%20%22quoted%22%20%5C%20name.txt"),
        ("äöü.txt", "attachment; filename=\"___.txt\"; filename*=UTF-8''%C3%A4%C3%B6%C3%BC.txt"),
        ("100%41.txt", "attachment; filename=\"100_41.txt\"; filename*=UTF-8''100%2541.txt"),
        ("../../x", 'attachment; filename="../../x"'),
    ],
)
async def test_names_cannot_break_out_of_their_header(owner: httpx.AsyncClient, app: str, name: str, shown: str) -> None:
    body = part("name", name.encode()) + FILE + END
    meta = (await owner.post(place(app, "c"), content=body, headers=FORM)).json()
    assert meta["name"] == name
    assert (await owner.get(f"{place(app, 'c', meta['id'])}/content")).headers["content-disposition"] == shown


BAD_FORMS: list[tuple[bytes, int, str | None]] = [
    (b"", 400, None),
    (b"abc", 400, None),
    (END, 422, "file"),
    (FILE, 400, None),
    (FILE + END[:-4], 400, None),
    (b"x" * 100_000, 400, None),
    (FILE + FILE + END, 422, "file"),
    (FILE + part("other", b"x") + END, 422, "other"),
    (part("name", b"a") + part("name", b"b") + FILE + END, 422, "name"),
    (part("file", b"x") + END, 422, "name"),
    (part("file", b"x", filename="") + END, 422, "name"),
    (part("name", b"a\x00") + FILE + END, 422, "name"),
    (part("name", b"a\nb") + FILE + END, 422, "name"),
    (part("name", b"\xff") + FILE + END, 422, "name"),
    (part("name", b"") + FILE + END, 422, "name"),
    (part("name", b"x" * 256) + FILE + END, 422, "name"),
    (part("name", b"x" * 100_000) + FILE + END, 422, "name"),
    (part("content_type", b"x") + FILE + END, 422, "content_type"),
    (part("file", b"x", "Content-Type: nonsense", filename="a") + END, 422, "content_type"),
    (part("file", b"x", "X: " + "y" * 5000, filename="a") + END, 400, None),
    (part("file", b"x", *(f"X{number}: y" for number in range(20)), filename="a") + END, 400, None),
    (part("file", b"x", "Content-Length: 5", filename="a") + END, 400, None),
    (part("file", b"xxxx", "Content-Length: 1", filename="a") + END, 400, None),
    (part("file", b"x", "Content-Length: " + "9" * 4000, filename="a") + END, 400, None),
    (part("file", b"x", filename="x" * 300) + END, 422, "name"),
    (b"--xXx\r\n\r\nabc\r\n" + END, 400, None),
    (b"--xXx\r\nContent-Disposition: attachment; name=file\r\n\r\nabc\r\n" + END, 400, None),
    (b"--xXx\r\nContent-Disposition: form-data\r\n\r\nabc\r\n" + END, 422, ""),
    (b"--xXx\r\nContent-Disposition: form-data; name=\xff\r\n\r\nabc\r\n" + END, 400, None),
    (b"--xXx\r\n" + b"x" * 70_000, 400, None),
    (b"".join(part("", b"") for _ in range(20)) + END, 422, ""),
]


async def test_hostile_forms_are_refused_and_change_nothing(owner: httpx.AsyncClient, app: str, connection: asyncpg.Connection) -> None:
    meta = await upload(owner, app, b"abc")
    async with nothing_changes(connection):
        for body, status, field in BAD_FORMS:
            for method, path in (("POST", place(app, "c")), ("PUT", place(app, "c", meta["id"]))):
                if (method == "PUT" and field == "name" and body.startswith(part("file", b"x")[:-2])) or (method == "PUT" and b'filename=""' in body):
                    continue  # a replaced file has a name
                answer = await owner.request(method, path, content=body, headers=FORM)
                document = refused(answer, status)
                assert field is None or document.get("field") == field, (body[:100], document)
        for kind in ("", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=xXx", "application/json"):
            refused(await owner.post(place(app, "c"), content=FILE + END, headers={"content-type": kind}), 400, "malformed", "content-type")
        refused(await owner.post(place(app, "c"), content=FILE + END, headers={"content-type": f"multipart/form-data; boundary={'x' * 2000}"}), 400)
        for collection in ("%00", "x" * 129, "%FF"):
            assert (await owner.post(place(app, collection), content=FILE + END, headers=FORM)).status_code in {400, 422}


async def unannounced(head: bytes, size: int) -> AsyncIterator[bytes]:
    """A body without a content-length."""
    yield head
    for start in range(0, size, 65_536):
        yield bytes(min(65_536, size - start))


async def refused_before_it_is_sent(client: httpx.AsyncClient, path: str, size: int) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {client.headers['authorization']}\r\ncontent-length: {size}\r\n\r\n"
    async with await anyio.connect_tcp(str(client.base_url.host), client.base_url.port or 80) as stream:
        await stream.send(head.encode())
        with anyio.fail_after(5):
            assert (await stream.receive()).startswith(b"HTTP/1.1 413 ")


async def test_a_form_may_come_a_byte_at_a_time(owner: httpx.AsyncClient, app: str) -> None:
    """Wherever the network cuts it, the last line break included."""
    body = b"preamble\r\n" + FILE + END + b"epilogue"

    async def cut(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]
            await anyio.lowlevel.checkpoint()

    for size in (1, 2, 3, len(body)):
        assert (await owner.post(place(app, "c"), content=cut(size), headers=FORM)).json()["size"] == 3


async def test_what_is_too_large_is_refused_early(owner: httpx.AsyncClient, app: str, connection: asyncpg.Connection, tmp_path: Path) -> None:
    head = part("file", b"", filename="a")[:-2]
    async with nothing_changes(connection):
        await refused_before_it_is_sent(owner, place(app, "c"), MAX_FILE + 70_000)
        answer = await owner.post(place(app, "c"), content=unannounced(head, MAX_FILE + 2 * MIB), headers=FORM)
        assert refused(answer, 413, "too_large")["max_file_bytes"] == MAX_FILE
        refused(await owner.post(place(app, "c"), files={"file": ("a", bytes(MAX_FILE + 1))}), 413)
        refused(await owner.post(f"{API}/apps", content=b" " * (3 * MIB)), 413)
    assert await left(tmp_path) == []
    assert (await upload(owner, app, bytes(MAX_FILE)))["size"] == MAX_FILE


async def test_ids_that_find_nothing(owner: httpx.AsyncClient, app: str, connection: asyncpg.Connection) -> None:
    meta = await upload(owner, app, b"abc")
    other = await make_app(owner, "two")
    async with nothing_changes(connection):
        for file_id in NO_IDS:
            for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", ""), ("PUT", "")):
                answer = await owner.request(method, place(app, "c", file_id) + path)
                assert answer.status_code == (400 if file_id == "%00" else 404), (file_id, method, answer.text)
            assert (await owner.get(f"{API}/apps/{app}/history/files/c/{file_id}")).status_code == (400 if file_id == "%00" else 404)
        for path in (place(other, "c", meta["id"]), place(app, "d", meta["id"]), place("nope", "c", meta["id"])):
            refused(await owner.get(path), 404)
            refused(await owner.get(f"{path}/content"), 404)
            refused(await owner.delete(path), 404)


async def test_nobody_gets_in_without_a_credential(anonymous: httpx.AsyncClient, owner: httpx.AsyncClient, app: str, tmp_path: Path) -> None:
    meta = await upload(owner, app, b"abc")
    path = place(app, "c", meta["id"])
    for method, target in (("GET", place(app)), ("GET", place(app, "c")), ("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
        refused(await anonymous.request(method, target), 401)
    for method, target in (("POST", place(app, "c")), ("PUT", path)):
        refused(await anonymous.request(method, target, files={"file": ("a", b"never stored")}), 401)
    checksum = sha256(b"never stored").hexdigest()
    assert not (tmp_path / "blobs" / checksum[:2] / checksum).exists()


@pytest.mark.parametrize("size", [3, len(BIG)])
async def test_damaged_bytes_never_look_whole(owner: httpx.AsyncClient, core: Platform, app: str, tmp_path: Path, size: int) -> None:
    meta = await upload(owner, app, BIG[:size])
    path, stored = f"{place(app, 'c', meta['id'])}/content", tmp_path / "blobs" / meta["checksum"][:2] / meta["checksum"]
    for damage in (BIG[1 : size + 1], BIG[: size - 1], BIG[: size - 1] + b"x"):
        stored.write_bytes(damage)
        refused(await owner.get(path, headers={"range": "bytes=0-1"}), 500, "blob_damaged")
        if size <= MIB:
            refused(await owner.get(path), 500, "blob_damaged")
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await owner.get(path)
    assert stored.exists()
    stored.unlink()
    for headers in ({}, {"range": "bytes=0-1"}):
        refused(await owner.get(path, headers=headers), 500, "blob_missing")
    assert (await owner.get(place(app, "c", meta["id"]))).json() == meta
    metrics = (await core.metrics.render(core.reader)).decode()
    assert 'picloud_blob_faults_total{fault="damaged"}' in metrics
    assert 'picloud_blob_faults_total{fault="missing"} 2.0' in metrics


async def test_a_caller_who_goes_is_read_no_further_for(owner: httpx.AsyncClient, app: str, tmp_path: Path) -> None:
    meta = await upload(owner, app, bytes(MAX_FILE))
    async with owner.stream("GET", f"{place(app, 'c', meta['id'])}/content") as answer:
        async for _ in answer.aiter_raw():
            break
    body = part("file", bytes(MIB), filename="a")
    with pytest.raises(httpx.HTTPError):
        await owner.post(place(app, "c"), content=broken(body), headers=FORM | {"content-length": str(2 * MIB)})
    await eventually(partial(left, tmp_path), lambda found: not found)
    assert (await owner.get(place(app, "c"))).json()["items"] == [meta]


async def left(folder: Path) -> list[Path]:
    """Temporary files."""
    return list((folder / "blobs/unfinished").glob("*"))


async def broken(body: bytes) -> AsyncIterator[bytes]:
    yield body
    raise httpx.WriteError("gone")


async def test_triggers_on_files(owner: httpx.AsyncClient, app: str) -> None:
    script = (await owner.post(f"{API}/scripts", json={"app_id": app, "name": "s", "source": "def handler(ctx):\n    pass\n"})).json()["id"]
    answer = await owner.post(f"{API}/apps/{app}/triggers/files", json={"script_id": script, "collection_glob": "c*", "ops": ["create", "create"]})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["collection_glob"], answer.json()["ops"]) == ("c*", ["create"])
    for wrong, field in (({"collection_glob": ""}, "collection_glob"), ({"collection_glob": "a*b"}, "collection_glob"), ({}, "$.collection_glob")):
        refused(await owner.post(f"{API}/apps/{app}/triggers/files", json={"script_id": script, **wrong}), 422, field=field)
    refused(await owner.post(f"{API}/apps/{app}/triggers/files", json={"script_id": script, "collection_glob": "*", "ops": ["insert"]}), 422)
