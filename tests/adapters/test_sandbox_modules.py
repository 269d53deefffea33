"""The modules that the platform serves (uuid, hmac, url, hex) and the sandbox's own hashlib, held against CPython's."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest

from adapters.sandbox import MontySandbox, SandboxSettings, open_sandbox
from domain.modules import STANDARD_MODULES
from domain.sandbox import Call, Source
from tests.adapters.sandbox_support import KvHost, answer, handler, job, returned

pytestmark = pytest.mark.anyio

HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_224", "sha3_256", "sha3_384", "sha3_512")
SIZES = (0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 143, 144, 145, 200)
TEXTS = ("", "a", "a b/c?d=e&f#g", "é\N{SNOWMAN}\U0001f600", "~-._", "100%", "%41%4", "%zz%", "%C3%A9", "%ff%fe", "a%00b", "+ +", "%E2%98%83%F0")
NOT_YET = {"__future__", "abc", "builtins", "enum", "io", "statistics", "string", "zoneinfo"}


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with open_sandbox(SandboxSettings(slots=2)) as opened:
        yield opened


def data(size: int) -> bytes:
    return bytes(number * 7 % 256 for number in range(size))


async def failure(sandbox: MontySandbox, *lines: str) -> str:
    result = await sandbox.run(job(handler(*lines)), host_with_ids())
    assert result.error is not None, result
    return f"{result.error.type}: {result.error.message}"


def host_with_ids() -> KvHost:
    async def new(call: Call) -> Any:
        return f"018f3c6e-7b1a-{call.args[0]}c3d-8e4f-0123456789ab"

    return KvHost(uuid_new=new)


@pytest.mark.parametrize("name", HASHES)
async def test_hashlib_is_right(sandbox: MontySandbox, name: str) -> None:
    ours = f"lambda d: [hashlib.{name}(d).hexdigest(), hashlib.new('{name}', d).digest().hex()]"
    found = await answer(sandbox, "import hashlib", f"f = {ours}", f"return [f(bytes.fromhex(d)) for d in {[data(size).hex() for size in SIZES]}]")
    assert found == [[hashlib.new(name, data(size)).hexdigest()] * 2 for size in SIZES]


@pytest.mark.parametrize("name", HASHES)
async def test_hmac_is_right(sandbox: MontySandbox, name: str) -> None:
    keys = [data(size).hex() for size in SIZES]
    found = await answer(
        sandbox,
        f"f = lambda k, m: hmac.new(bytes.fromhex(k), m, '{name}').hexdigest()",
        f"return [f(k, b'message') for k in {keys}] + [f(k, b'') for k in {keys}]",
    )
    assert found == [hmac.new(data(size), message, name).hexdigest() for message in (b"message", b"") for size in SIZES]


async def test_hmac_is_as_in_cpython_otherwise(sandbox: MontySandbox) -> None:
    mac = hmac.new(b"k", b"ab", "sha256")
    found = await answer(
        sandbox,
        "import hashlib, hmac as h",
        "m = h.new(b'k', digestmod=hashlib.sha256)",
        "m.update(b'a')",
        "first = m.hexdigest()",
        "m.update(b'b')",
        "return [first, m.hexdigest(), h.digest(b'k', b'ab', 'sha256').hex(), m.name, m.digest_size, m.block_size, hmac.new(b'k', b'ab').hexdigest()]",
    )
    assert found == [hmac.new(b"k", b"a", "sha256").hexdigest(), *[mac.hexdigest()] * 2, mac.name, mac.digest_size, mac.block_size, mac.hexdigest()]


async def test_digests_are_compared(sandbox: MontySandbox) -> None:
    pairs = "[(b'a', b'a'), (b'a', b'b'), (b'a', b'ab'), ('a', 'a'), ('é', 'é'), ('a', 'b'), (b'', b'')]"
    assert await answer(sandbox, f"return [hmac.compare_digest(a, b) for a, b in {pairs}]") == [True, False, False, True, True, False, True]
    assert await failure(sandbox, "hmac.compare_digest('a', b'a')") == "TypeError: hmac: compare_digest takes two bytes or two str"
    assert await failure(sandbox, "hmac.new('k', b'')") == "TypeError: hmac: key must be bytes, not str"
    assert await failure(sandbox, "hmac.new(b'k', 'm')") == "TypeError: hmac: msg must be bytes, not str"
    assert (await failure(sandbox, "hmac.new(b'k', b'm', 5)")).startswith("TypeError: hmac: digestmod")
    assert (await failure(sandbox, "hmac.new(b'k', b'm', 'sha0')")).startswith("ValueError")
    assert (await failure(sandbox, "hmac.new(b'k', b'm', 'shake_128')")).startswith("ValueError")


async def test_url_quotes_and_unquotes_as_urllib(sandbox: MontySandbox) -> None:
    found = await answer(sandbox, f"return [[url.quote(t), url.quote(t, safe=''), url.unquote(t), url.unquote(url.quote(t))] for t in {list(TEXTS)!r}]")
    assert found == [[quote(text), quote(text, safe=""), unquote(text), unquote(quote(text))] for text in TEXTS]


async def test_url_encodes_fields_as_urllib(sandbox: MontySandbox) -> None:
    fields = {"a b": "c&d=é", "n": 1, "x": [1, "two words"], "f": 1.5, "~": "*"}
    found = await answer(sandbox, f"return [url.encode({fields!r}), url.encode([('a', 'b'), ('a', 'c')]), url.encode({{}})]")
    assert found == [urlencode(fields, doseq=True), "a=b&a=c", ""]


async def test_url_parses_into_parts(sandbox: MontySandbox) -> None:
    whole = await answer(sandbox, "import url as u", "return u.parse('HTTPS://me:p%40ss@Example.com:8443/a%20b/c?x=1&x=2&y=a+b%26&z#frag?ment')")
    assert whole == {
        "scheme": "https",
        "username": "me",
        "password": "p@ss",
        "host": "example.com",
        "port": 8443,
        "path": "/a%20b/c",
        "query": {"x": "2", "y": "a b&", "z": ""},
        "fragment": "frag?ment",
    }
    texts = ["http://[::1]:80/", "http://[::1]", "//h/p", "/p?q", "mailto:a@b", "a:b", "", "1:2", "http://h:80x", "http://a@b@c/"]
    shown = [await answer(sandbox, f"p = url.parse({text!r})", "return [p['scheme'], p['host'], p['port'], p['path']]") for text in texts if "80x" not in text]
    assert shown == [
        ["http", "::1", 80, "/"],
        ["http", "::1", None, ""],
        ["", "h", None, "/p"],
        ["", "", None, "/p"],
        ["mailto", "", None, "a@b"],
        ["a", "", None, "b"],
        ["", "", None, ""],
        ["", "", None, "1:2"],
        ["http", "c", None, "/"],
    ]
    for text in ("http://h:80x", "http://h:99999", "http://h:\u0661"):
        assert (await failure(sandbox, f"url.parse({text!r})")).startswith("ValueError: url: port")


async def test_hex_is_a_module_and_pythons_own(sandbox: MontySandbox) -> None:
    found = await answer(sandbox, "import hex as h", "return [hex(255), hex.encode(b'\\x00\\xff'), h.encode('é'), hex.decode('00fF') == b'\\x00\\xff']")
    assert found == ["0xff", "00ff", "c3a9", True]
    for bad in ("'0'", "'zz'", "'é'"):
        assert (await failure(sandbox, f"hex.decode({bad})")).startswith("ValueError: hex: text must be pairs")
    assert await failure(sandbox, "hex.decode(1)") == "TypeError: hex: text must be str, not int"
    assert await failure(sandbox, "hex.encode(1)") == "TypeError: hex: data must be bytes or str, not int"


async def test_uuids_are_the_hosts(sandbox: MontySandbox) -> None:
    host = host_with_ids()
    found = await answer(
        sandbox,
        "from uuid import uuid4, UUID",
        "import uuid",
        "a = uuid4()",
        "b = uuid.uuid7()",
        "return [str(a), a.hex, a.version, b.version, a == UUID(str(a)), a != b, len({a, b, uuid.UUID(a.hex)}), f'{b}', repr(a), a.urn]",
        host=host,
    )
    four = uuid.UUID("018f3c6e-7b1a-4c3d-8e4f-0123456789ab")
    assert found == [str(four), four.hex, 4, 7, True, True, 2, str(four).replace("-4", "-7"), repr(four), four.urn]
    assert [(call.name, call.args) for call in host.calls] == [("uuid_new", (4,)), ("uuid_new", (7,))]


async def test_uuids_are_read_as_in_cpython(sandbox: MontySandbox) -> None:
    one = uuid.UUID("018F3C6E-7B1A-4C3D-8E4F-0123456789AB")
    spellings = [str(one), one.hex, one.urn, f"{{{one}}}", str(one).upper()]
    found = await answer(sandbox, f"return [[str(uuid.UUID(t)), uuid.UUID(t).int, uuid.UUID(t).bytes.hex()] for t in {spellings}]")
    assert found == [[str(one), one.int, one.bytes.hex()]] * len(spellings)
    assert await answer(sandbox, f"return [str(uuid.UUID(bytes={one.bytes!r})), str(uuid.UUID(int={one.int})), str(uuid.UUID(int=0))]") == [
        str(one),
        str(one),
        str(uuid.UUID(int=0)),
    ]
    for bad, error in (
        ("'x'", "ValueError"),
        ("1", "TypeError"),
        ("''", "ValueError"),
        ("bytes=b'a'", "ValueError"),
        ("int=-1", "ValueError"),
        ("", "TypeError"),
    ):
        assert (await failure(sandbox, f"uuid.UUID({bad})")).startswith(f"{error}: uuid: ")


async def test_scripts_have_the_standard_modules_that_are_said_to_be_there(sandbox: MontySandbox) -> None:
    for name in sorted(STANDARD_MODULES):
        result = await sandbox.run(job(handler(f"import {name}")), KvHost())
        assert (result.ending == "returned") == (name not in NOT_YET), (name, result)


async def test_modules_pass_the_check_at_upload(sandbox: MontySandbox) -> None:
    source = handler(
        "import uuid as u, url, hex",
        "from hmac import compare_digest",
        "a = u.uuid4()",
        "b = hmac.new(b'k', b'm', 'sha1').hexdigest() + url.quote(a.hex) + hex.encode(a.bytes) + hex(a.int)",
        "return [str(a), b, compare_digest(b, url.encode({'a': 1})), url.parse('/')['path'], schedule.at(5.0, 'x', {}), schedule.cancel('x')]",
    )
    assert await sandbox.check("endpoint", Source("main", source)) == []
    wrong = await sandbox.check("endpoint", Source("main", handler("uuid.uuid5()", "schedule.at()", "hex.encode(1)")))
    assert [finding.line for finding in wrong] == [2, 3, 4]


async def test_modules_may_use_these_names_for_their_own(sandbox: MontySandbox) -> None:
    module = "uuid = 5\n\ndef url(path):\n    return 'https://example.org' + path + hex(255)\n"
    result = await sandbox.run(job("from util import url, uuid\n\ndef handler(ctx):\n    return [url('/a'), uuid]\n", util=module), KvHost())
    assert returned(result) == ["https://example.org/a0xff", 5]
    hidden = await sandbox.run(job("import util\n\ndef handler(ctx):\n    return util.hex\n", util=module), KvHost())
    assert hidden.error is not None
    assert hidden.error.type == "AttributeError"
