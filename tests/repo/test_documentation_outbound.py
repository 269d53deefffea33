"""docs/services/http.md and secrets.md: what they show is typed and run, against the instance itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repo.documentation import SHELL, blocks, matches, shell
from tests.repo.instance import API, AppClient
from tests.served import ROOT, environment

PAGES = [ROOT / "docs/services/http.md", ROOT / "docs/services/secrets.md"]
CALLED = {"STATUS_URL": "/healthz", "LOGIN_URL": f"{API}/auth/login"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_everything_does_what_is_shown(app: AppClient, page: Path, tmp_path: Path) -> None:
    base = str(app.admin.base_url).rstrip("/")
    variables = {"PICLOUD": base, "APP": app.slug, "TOKEN": str(app.admin.headers["authorization"]).removeprefix("Bearer ")}
    if page.name == "http.md":
        for name, path in CALLED.items():
            app.admin.put(f"{API}/apps/{app.slug}/secrets/{name}", json={"value": f"{base}{path}"}).raise_for_status()
    with shell(tmp_path, {**environment({}), **variables}) as terminal:
        for number, block in enumerate(blocks(page)):
            if block.language == SHELL:
                terminal.follow(block, block.text)
                continue
            assert block.language == "python", block
            assert block.shown is not None
            answer = app.run(app.upload(f"shown {number}", block.text))
            assert matches(block.shown, f"{answer.status_code} {answer.text}"), (block.line, answer.status_code, answer.text)
