"""Who goes by which slug, and who went by it, as a plain dict; and what the log says of that."""

from __future__ import annotations

from typing import Literal

import asyncpg
import msgspec

from domain.apps import AppChanged, AppCreated, AppDeleted
from domain.hosts import slug_host
from domain.ids import NIL_APP
from domain.names import NameClaimed, NameReleased, NameRetired

Op = tuple[Literal["create", "rename", "delete"], int, int, bool]
"""What is asked for: of which app (by the number of its creation), which slug, and whether another's old one is taken over."""

Owners = dict[str, tuple[int, bool]]
"""Of each slug the app that has it, and whether it goes by it."""


class SlugsModel(msgspec.Struct):
    """The state of all slugs. `created` counts apps, which are known by their numbers."""

    owners: Owners
    living: frozenset[int]
    created: int

    def ask(self, op: Op, slugs: tuple[str, ...], number: int) -> str:
        """Do it if it is allowed; `ok` or the code of the refusal. `number` is that of the app that is created."""
        kind, app, wanted, takeover = op
        slug = slugs[wanted]
        if kind == "create":
            app = number
        elif app not in self.living:
            return "app_not_found"
        if kind == "delete":
            self.owners = {each: owner for each, owner in self.owners.items() if owner[0] != app}
            self.living -= {app}
            return "ok"
        refusal = self._refusal(app, slug, takeover=takeover)
        if refusal is None:
            self.living |= {app}
            self.owners = {each: (owner, is_current and owner != app) for each, (owner, is_current) in self.owners.items()} | {slug: (app, True)}
        return refusal or "ok"

    def _refusal(self, app: int, slug: str, *, takeover: bool) -> str | None:
        owner, is_current = self.owners.get(slug, (app, False))
        if owner == app:
            return None
        return "slug_taken" if is_current else None if takeover else "slug_in_history"


async def names_agree(connection: asyncpg.Connection) -> None:
    """Assert that the streams of names and those of apps, by their last events, and the read model say the same."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (originator_id) topic, convert_from(state, 'UTF8') AS state
        FROM events WHERE app_id = $1 AND split_part(originator_id, ':', 1) IN ('app', 'name')
        ORDER BY originator_id, originator_version DESC
        """,
        NIL_APP,
    )
    last = [(row["topic"], msgspec.json.decode(row["state"])) for row in rows]
    names: dict[str, dict[str, tuple[str, str]]] = {"slug": {}, "domain": {}}
    apps: dict[str, tuple[str, list[str]]] = {}
    for topic, event in last:
        if topic in {NameClaimed.TOPIC, NameRetired.TOPIC}:
            names[event["kind"]][event["name"]] = (event["owner_id"], topic)
        elif topic in {AppCreated.TOPIC, AppChanged.TOPIC}:
            apps[event["app_id"]] = (event["slug"], event.get("old_slugs", []))
        else:
            assert topic in {NameReleased.TOPIC, AppDeleted.TOPIC, "apps.AppPurged"}
    expected = {slug: (app, NameClaimed.TOPIC) for app, (slug, _) in apps.items()}
    expected |= {old: (app, NameRetired.TOPIC) for app, (_, old_slugs) in apps.items() for old in old_slugs}
    assert names["slug"] == expected
    assert names["domain"] == {slug_host(slug): owner for slug, owner in expected.items()}
    stored = await connection.fetch("SELECT app_id, slug, old_slugs FROM apps")
    assert {str(row["app_id"]): (row["slug"], row["old_slugs"]) for row in stored} == apps
