"""docs/services/files.md: its commands, as a reader with a login types them."""

from __future__ import annotations

from pathlib import Path

from tests.repo.documentation import SHELL, blocks, shell
from tests.repo.instance import AppClient
from tests.served import ROOT, environment


def test_the_commands_do_what_is_shown(app: AppClient, tmp_path: Path) -> None:
    commands = [block for block in blocks(ROOT / "docs/services/files.md") if block.language == SHELL]
    assert len(commands) == 3
    token = app.admin.headers["authorization"].removeprefix("Bearer ")
    own = {"PICLOUD": str(app.admin.base_url).rstrip("/"), "APP": app.slug, "TOKEN": token}
    with shell(tmp_path, environment({})) as terminal:
        terminal.run("\n".join(f"{name}='{value}'" for name, value in own.items()))
        for block in commands:
            terminal.follow(block, block.text)
