"""docs/apps.md: what it shows is typed and run."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.repo.documentation import blocks, shell
from tests.served import ROOT, environment


def test_everything_does_what_is_shown(admin: httpx.Client, tmp_path: Path) -> None:
    token = str(admin.headers["authorization"]).removeprefix("Bearer ")
    variables = {"PICLOUD": str(admin.base_url).rstrip("/"), "TOKEN": token}
    with shell(tmp_path, {**environment({}), **variables}) as terminal:
        for block in blocks(ROOT / "docs/apps.md"):
            terminal.follow(block, block.text)
