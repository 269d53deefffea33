"""README.md as a newcomer follows it: every command of it, on an instance that has just been started for the first time."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from adapters.sandbox import sdk_stub
from runtime.settings import settings_help
from tests.repo.documentation import ACCESS, OPERATIONS_MARK, SETTINGS_MARK, SHELL, access_tables, blocks, matches, operations_help, shell
from tests.served import ROOT, command, environment, serve, workplace

README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PASSWORD = "the password that make serve has printed"


def test_the_readme_does_what_it_says() -> None:
    assert shutil.which("curl"), "the README is typed with curl: install it"
    with workplace() as directory, serve(directory) as served, shell(directory, environment({})) as terminal:
        password = served.said.partition("with the password ")[2].split()[0]
        install_command(directory)
        commands = [block for block in blocks(README) if block.language == SHELL]
        assert sum(block.shown is not None for block in commands) > 12
        for block in commands:
            text = block.text.replace("localhost:8000", f"localhost:{served.address.partition(':')[2]}").replace(PASSWORD, password)
            terminal.follow(block, text)
        assert password not in served.errors


def install_command(directory: Path) -> None:
    """`.venv/bin/picloud` as `make serve` would have made it."""
    script = directory / ".venv/bin/picloud"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    script.chmod(0o755)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (document.parent / file).resolve() if file else document
        assert linked.exists(), target
        if anchor:
            headings = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in linked.read_text().splitlines() if line[:1] == "#"}
            assert anchor in headings, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_fences_are_closed_and_named(document: Path) -> None:
    fences = [line for line in document.read_text().splitlines() if line.startswith("```")]
    assert len(fences) % 2 == 0
    assert all(opening != "```" for opening in fences[::2]), fences
    assert set(fences[1::2]) <= {"```"}, fences


def test_documents_show_the_code_as_it_is() -> None:
    remedy = "run: .venv/bin/python -m tests.repo.documentation"
    assert f"{SETTINGS_MARK}\n{settings_help(markdown=True)}\n" in README.read_text(), remedy
    for mark, table in access_tables().items():
        assert f"{mark}\n{table}\n" in ACCESS.read_text(), remedy
    assert (ROOT / "docs/api.md").read_text().endswith(f"{OPERATIONS_MARK}\n\n{operations_help()}"), remedy
    assert f"```pyi\n{sdk_stub().strip()}\n```" in (ROOT / "docs/sdk.md").read_text(), remedy


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [("a … c", "a b c", True), ("a … c", "a b d", False), ("…", "", True), ("[1]\n", "[1]", True), ("a.c", "abc", False), ("a", "a b", False)],
)
def test_ellipses_stand_for_anything(shown: str, printed: str, same: bool) -> None:  # noqa: FBT001  # a row of the table
    assert matches(shown, printed) is same
