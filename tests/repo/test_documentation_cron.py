"""docs/services/cron.md and modules.md: what they show is typed and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repo.documentation import SHELL, blocks, matches, shell
from tests.repo.instance import AppClient
from tests.served import ROOT, environment

PAGES = [ROOT / "docs/services/cron.md", ROOT / "docs/services/modules.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_everything_does_what_is_shown(app: AppClient, page: Path, tmp_path: Path) -> None:
    token = str(app.admin.headers["authorization"]).removeprefix("Bearer ")
    variables = {"PICLOUD": str(app.admin.base_url).rstrip("/"), "APP": app.slug, "TOKEN": token}
    with shell(tmp_path, {**environment({}), **variables}) as terminal:
        for number, block in enumerate(blocks(page)):
            if block.language == SHELL:
                terminal.follow(block, block.text)
                continue
            assert block.shown is not None
            answer = app.run(app.upload(f"shown {number}", block.text))
            assert matches(block.shown, f"{answer.status_code} {answer.text}"), (block.line, answer.status_code, answer.text)
