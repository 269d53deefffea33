"""docs/access/users.md: what it shows is typed and answered, by an instance of its own, because it lists all users."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.repo.documentation import SHELL, blocks, shell
from tests.repo.instance import API
from tests.served import ROOT, environment, serve, workplace

PASSWORD = "correct horse battery"


def test_everything_does_what_is_shown(tmp_path: Path) -> None:
    with workplace() as directory, serve(directory, PICLOUD_ADMIN_PASSWORD=PASSWORD) as served:
        token = httpx.post(f"{served.url}{API}/auth/login", json={"username": "admin", "password": PASSWORD}).json()["token"]
        with shell(tmp_path, {**environment({}), "PICLOUD": served.url, "TOKEN": token}) as terminal:
            commands = [block for block in blocks(ROOT / "docs/access/users.md") if block.language == SHELL]
            assert sum(block.shown is not None for block in commands) > 4
            for block in commands:
                terminal.follow(block, block.text)
