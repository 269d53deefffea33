"""Documents as what they promise: their fenced blocks, in order, and a shell that runs them as a reader would.

A `sh` block is run; a `text` or `json` block right behind it shows what it prints, `…` standing for anything. Behind the comment `<!-- eventually -->` a
block only asks, so it is asked again until the answer is the one shown. A `python` block is a script of PiCloud. Other blocks are only shown.

`python -m tests.repo.documentation` brings those parts of documents up to date that show what the code knows.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, get_args
from uuid import UUID

import msgspec
from litestar import Litestar

from adapters.sandbox import sdk_stub
from domain.authz import RULES, AppRole, InstanceRole, Principal, app_role, decide
from runtime.settings import settings_help
from tests.served import ROOT
from web.app import routers
from web.openapi.document import build_document

OPERATIONS_MARK: Final = "<!-- operations -->"
_PREFIX: Final = "/api/v1/admin"
SETTINGS_MARK: Final = "<!-- settings -->"
ACCESS: Final = ROOT / "docs/access/authorisation.md"
SHELL: Final = "sh"
SHOWN: Final = frozenset({"text", "json"})
_FENCE: Final = re.compile(r"(<!-- (?P<note>[a-z_ ]+) -->\n)?^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_ASK_FOR_S: Final = 15.0
_PAUSE_S: Final = 0.05
_APP: Final = UUID(int=1)
_MARK: Final = "--- end of block ---"


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A fenced block: its language, text, first line, the comment above it, and the output shown behind it."""

    language: str
    text: str
    line: int
    note: str
    shown: str | None


def blocks(path: Path) -> list[Block]:
    """A document's blocks that are not output of the one before."""
    text = path.read_text()
    found = list(_FENCE.finditer(text))
    result = []
    for index, match in enumerate(found):
        follower = found[index + 1] if index + 1 < len(found) else None
        adjacent = follower is not None and follower["language"] in SHOWN and text[match.end() : follower.start()] == "\n"
        if match["language"] not in SHOWN:
            shown = follower["text"] if adjacent and follower is not None else None
            line = text.count("\n", 0, match.start("text")) + 1
            result.append(Block(language=match["language"], text=match["text"], line=line, note=match["note"] or "", shown=shown))
    return result


def matches(shown: str, printed: str) -> bool:
    """Whether a block printed what is shown; `…` stands for anything, also nothing."""
    pattern = ".*?".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


class Shell:
    """One bash that lives as long as its reader's terminal would: variables and functions stay."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process = process
        self._errors = errors

    def run(self, text: str) -> str:
        """Run a block and return what it prints on its standard output. Fails when its last command does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{\n{text}\n}} 2>{self._errors} </dev/null\necho; echo '{_MARK}' $?\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line.startswith(_MARK):
                assert line.split()[-1] == "0", f"status {line.split()[-1]}:\n{text}\nprinted:\n{printed}\n{self._errors.read_text()}"
                return printed
            printed += line
        raise AssertionError(f"the shell ended in:\n{text}\nafter:\n{printed}")

    def follow(self, block: Block, text: str) -> str:
        """Run a block whose text is `text` and check what it prints against what is shown."""
        deadline = time.monotonic() + _ASK_FOR_S
        while block.note == "eventually" and time.monotonic() < deadline:
            printed = self.run(f"({text}\n) || true")
            if block.shown is not None and matches(block.shown, printed):
                return printed
            time.sleep(_PAUSE_S)
        printed = self.run(text)
        assert block.shown is None or matches(block.shown, printed), (
            f"line {block.line}:\n{text}\nshown:\n{block.shown}\nprinted:\n{printed}\n{self._errors.read_text()}"
        )
        return printed


@contextmanager
def shell(cwd: Path, environment: Mapping[str, str]) -> Iterator[Shell]:
    """A shell in a directory."""
    line = ["bash", "--noprofile", "--norc", "-o", "pipefail"]
    process = subprocess.Popen(line, cwd=cwd, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Shell(process, cwd / "errors.txt")
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def access_tables() -> dict[str, str]:
    """The tables of `docs/access/authorisation.md` by the marks that stand before them, from the table that decides."""
    roles = [[f"`{role}`", _implied(role)] for role in reversed(get_args(InstanceRole))]
    return {
        "<!-- roles -->": _table(["in the instance", "in every app"], roles),
        "<!-- app capabilities -->": _capabilities(of_instance=False),
        "<!-- instance capabilities -->": _capabilities(of_instance=True),
    }


def _implied(role: InstanceRole) -> str:
    found = app_role(Principal(kind="user", instance_role=role), _APP)
    return "what a membership says" if found is None else f"`{found}`"


def _capabilities(*, of_instance: bool) -> str:
    """Which roles have each capability, the lowest first, and the scope that it takes of a key."""
    people = (
        {role: Principal(kind="user", instance_role=role) for role in reversed(get_args(InstanceRole))}
        if of_instance
        else {role: Principal(kind="user", app_roles={_APP: role}) for role in reversed(get_args(AppRole))}
    )
    place = None if of_instance else _APP
    rows = [
        [f"`{capability}`", *("yes" if decide(person, capability, place).allowed else "no" for person in people.values()), f"`{rule.scope}`"]
        for capability, rule in RULES.items()
        if rule.of_instance is of_instance
    ]
    return _table(["capability", *(f"`{role}`" for role in people), "scope of a key"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def operations_help() -> str:
    """The API's operations as tables, by tag."""
    document = build_document(Litestar(route_handlers=routers(), openapi_config=None, logging_config=None))
    rows: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            rows[operation["tags"][0]].append(_row(method, path, operation))
    head = "| call | operation | needs | of a key |\n|---|---|---|---|\n"
    return "\n".join(f"### {tag['name']}\n\n{tag['description']}\n\n{head}{''.join(rows[tag['name']])}" for tag in document["tags"])


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    needed = operation.get("x-picloud-needs")
    anybody = "as the topic says" if operation.get("security") else "nothing"
    role = anybody if needed is None else needed["role"] or "a credential"
    scopes = ", ".join(f"`{scope}`" for scope in needed["scopes"]) if needed else ""
    return f"| `{method.upper()} {path.removeprefix(_PREFIX)}` | `{operation['operationId']}` | {role} | {scopes} |\n"


def refresh() -> None:
    """Write anew what documents show of the code: the settings, the SDK, the API and who may do what."""
    for mark, shown in access_tables().items():
        _replace(ACCESS, mark, shown)
    api = ROOT / "docs/api.md"
    api.write_text(api.read_text().partition(OPERATIONS_MARK)[0] + f"{OPERATIONS_MARK}\n\n{operations_help()}")
    readme, sdk = ROOT / "README.md", ROOT / "docs/sdk.md"
    _replace(readme, SETTINGS_MARK, settings_help(markdown=True))
    sdk.write_text(re.sub(r"```pyi\n.*?```", lambda _: f"```pyi\n{sdk_stub().strip()}\n```", sdk.read_text(), flags=re.DOTALL))


def _replace(document: Path, mark: str, table: str) -> None:
    """Put a table behind a mark, in place of the one that stands there."""
    document.write_text(re.sub(rf"{mark}\n(\|.*\n)*", lambda _: f"{mark}\n{table}\n", document.read_text()))


if __name__ == "__main__":
    refresh()
