"""docs/scripts.md and what else shows scripts: every one is uploaded and run, every statement about the language is tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.sandbox.settings import MAX_PRINT_BYTES
from domain.modules import MAX_SOURCE_BYTES
from domain.sandbox import Limits
from domain.scripts import DEFAULT_TIMEOUT_S
from domain.units import MAX_UNIT_EVENTS
from domain.values import MAX_DEPTH
from runtime.requests import MAX_QUEUED_BODY_BYTES
from runtime.settings import Settings
from tests.repo import test_documentation_cron, test_documentation_outbound
from tests.repo.documentation import Block, blocks, matches
from tests.repo.instance import AppClient
from tests.served import ROOT

SCRIPTS = ROOT / "docs/scripts.md"
MIB = 1024 * 1024


class Lack(NamedTuple):
    """A row of the table: sources that are refused at upload or fail, and an expression (behind some lines) for what is said instead."""

    refused: list[str]
    instead: str = "1"
    before: str = ""


PAGES = [
    SCRIPTS,
    ROOT / "docs/concepts.md",
    *sorted({*(ROOT / "docs/services").glob("*.md")} - {*test_documentation_cron.PAGES, *test_documentation_outbound.PAGES}),
]
"""The others' scripts need what their pages have done before."""

LACKS = {
    "inheritance": Lack(
        ["class A:\n    pass\n\nclass B(A):\n    pass\n", "class Odd(Exception):\n    pass\n", "class A:\n    def go(self):\n        super().go()\n"],
        "1",
    ),
    "`enum`": Lack(["import enum\n"], "Colour.RED", "class Colour:\n    RED = 'red'\n"),
    "`@property`": Lack([f"class A:\n    @{name}\n    def x(self):\n        return 1\n" for name in ("property", "staticmethod", "classmethod")], "1"),
    "`yield`": Lack(["def numbers():\n    yield 1\n"], "sum(x * 2 for x in [1, 2])"),
    "`del`": Lack(["def f():\n    x = {}\n    del x['a']\n"], "[{'a': 1}.pop('a'), [1].pop(0)]"),
    "`async for`": Lack(
        ["async def f(x):\n    async for y in x:\n        pass\n", "async def f(x):\n    async with x:\n        pass\n", "async def handler(ctx):\n    pass\n"],
        "1",
    ),
    "SDK calls inside": Lack(
        [
            "def handler(ctx):\n    return sorted(['b', 'a'], key=lambda k: kv.collection('c').get(k) or 0)\n",
            "def handler(ctx):\n    return min(['b', 'a'], key=lambda k: kv.collection('c').get(k) or 0)\n",
            "class A:\n    def __eq__(self, other):\n        return kv.collection('c').has('k')\n\ndef handler(ctx):\n    return A() == A()\n",
        ],
        "sorted([[kv.collection('c').get(k) or 0, k] for k in ['b', 'a']])",
    ),
    "`urllib`": Lack([f"import {name}\n" for name in ("urllib", "string", "textwrap", "operator", "statistics", "heapq")], "1"),
    "`zoneinfo`": Lack(["import zoneinfo\n"], "str(timezone(timedelta(hours=1)))", "from datetime import timedelta, timezone\n"),
    "`open`": Lack(
        ["def handler(ctx):\n    return open('/etc/passwd').read()\n", "import os\n\ndef handler(ctx):\n    return dict(os.environ)\n", "x = input()\n"],
        "1",
    ),
    "`bytes([1, 2])`": Lack(
        ["def handler(ctx):\n    return bytes([1, 2])\n", "x = bytearray(b'a')\n", "def handler(ctx):\n    return (1).to_bytes(2, 'big')\n"],
        "bytes.fromhex('0102').hex()",
    ),
}


def shown_scripts(path: Path) -> list[Block]:
    return [block for block in blocks(path) if block.language == "python"]


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_script_runs_as_shown(app: AppClient, document: Path) -> None:
    shown = shown_scripts(document)
    assert shown
    for number, block in enumerate(shown):
        if block.note.startswith("module "):
            app.upload(block.note.removeprefix("module "), block.text, "module")
            continue
        script = app.upload(f"shown {number}", block.text)
        if block.shown is not None:
            answer = app.run(script, params={"name": "Ada"}, json={"cups": 2})
            assert matches(block.shown, f"{answer.status_code} {answer.text}"), (block.line, answer.status_code, answer.text)


def test_the_table_of_what_is_missing_is_all_tried() -> None:
    rows = re.findall(r"^\| (.+?) \| .+ \|$", SCRIPTS.read_text().partition("| missing |")[2].partition("\n\n")[0], re.MULTILINE)
    rows = [row for row in rows if not row.startswith("---")]
    assert len(rows) == len(LACKS)
    assert all(row.startswith(known) for row, known in zip(rows, LACKS, strict=True)), rows


@pytest.mark.parametrize("name", LACKS)
def test_what_is_missing_is_missing_and_what_is_said_instead_works(app: AppClient, name: str) -> None:
    lack = LACKS[name]
    for number, lines in enumerate(lack.refused):
        source = lines if "def handler" in lines else f"{lines}\ndef handler(ctx):\n    return 1\n"
        if not app.check(source):
            assert app.run(app.upload(f"refused {number}", source)).status_code == 502, source
    works = app.upload("instead", f"{lack.before}\ndef handler(ctx):\n    return {lack.instead}\n")
    assert app.run(works).status_code == 200


def test_the_modules_that_are_named_are_there(app: AppClient) -> None:
    there = SCRIPTS.read_text().partition("There are, among others: ")[2].partition(".\n")[0]
    names = re.findall(r"`([a-z0-9]+)`", there)
    assert len(names) > 15
    assert app.run(app.upload("all", f"import {', '.join(names)}\n\n\ndef handler(ctx):\n    return 1\n")).text == "1"


def test_limits_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|", SCRIPTS.read_text().partition("## Limits")[2].partition("## ")[0], re.MULTILINE))
    limits, settings = Limits(), Settings()
    assert rows["time of a run, with all its re-runs"] == f"{DEFAULT_TIMEOUT_S:g} s"
    assert rows["memory"] == f"{limits.memory_mib} MiB"
    assert rows["calls to the platform (reads, lists)"] == str(limits.host_calls)
    assert rows["answer and logs"] == f"{limits.output_bytes // MIB} MiB"
    assert rows["nested calls"] == str(limits.recursion)
    assert rows["prints"] == f"{MAX_PRINT_BYTES // 1024} KiB"
    assert rows["changes"] == str(MAX_UNIT_EVENTS)
    assert rows["source"] == f"{MAX_SOURCE_BYTES // 1024} KiB"
    assert rows["nesting of a value"] == str(MAX_DEPTH)
    bodies = f"{settings.http.max_body_bytes // MIB} MiB, on `async` and `durable` routes {MAX_QUEUED_BODY_BYTES // MIB} MiB"
    assert rows["request body"] == bodies
