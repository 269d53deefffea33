"""docs/access: what the pages show is typed and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repo.documentation import blocks, shell
from tests.repo.instance import AppClient
from tests.served import ROOT, environment

PAGES = [ROOT / "docs/access/members.md", ROOT / "docs/access/api-keys.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_everything_does_what_is_shown(app: AppClient, page: Path, tmp_path: Path) -> None:
    token = str(app.admin.headers["authorization"]).removeprefix("Bearer ")
    variables = {"PICLOUD": str(app.admin.base_url).rstrip("/"), "APP": app.slug, "TOKEN": token}
    with shell(tmp_path, {**environment({}), **variables}) as terminal:
        for block in blocks(page):
            terminal.follow(block, block.text)
