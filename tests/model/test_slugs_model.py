"""Slugs: whatever apps do at once, it came out as if they had done it one after another, and a plain dict says what that is."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from datetime import datetime
from itertools import permutations
from uuid import UUID

import anyio
import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.postgres.connect import open_pool
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.reader import PgReader
from domain.clock import utc_now
from domain.errors import PiCloudError
from domain.registry import EVENTS, RULES
from projections.project import projector
from projections.registry import PROJECTIONS
from runtime.admin.app_deletion import AppDeletion
from runtime.admin.apps import Apps
from runtime.admin.writing import Acting, AdminWriter
from runtime.database import verify_projections
from tests.model.slugs_model import Op, SlugsModel, names_agree
from tests.postgres import cloned

pytestmark = pytest.mark.anyio

SLUGS = ("a", "b", "c")
ACTING = Acting("user:test")
ops = st.tuples(st.sampled_from(("create", "rename", "rename", "rename", "delete")), st.integers(0, 2), st.integers(0, 2), st.booleans())


class Instance:
    """Apps, known by numbers, changed by two processes."""

    def __init__(self, reader: PgReader, logs: Sequence[PgLog]) -> None:
        writers = [AdminWriter(log, utc_now, _passed) for log in logs]
        self._apps = [Apps(reader, writer) for writer in writers]
        self._deletions = [AppDeletion(reader, writer, log) for writer, log in zip(writers, logs, strict=True)]
        self._ids: dict[int, UUID] = {}

    async def ask(self, op: Op, number: int) -> str:
        """What comes of it: `ok` or the code of its refusal."""
        kind, app, slug, takeover = op
        app_id = self._ids.get(app, UUID(int=1))
        apps, deletion = self._apps[number % 2], self._deletions[number % 2]
        try:
            match kind:
                case "create":
                    self._ids[number] = (await apps.create("n", SLUGS[slug], ACTING, takeover=takeover)).id
                case "rename":
                    await apps.change(app_id, None, SLUGS[slug], ACTING, takeover=takeover)
                case "delete":
                    await deletion.delete(app_id, ACTING, force=True)
        except PiCloudError as error:
            return error.code
        return "ok"

    async def owners(self, connection: asyncpg.Connection) -> dict[str, tuple[int, bool]]:
        """As the read model says."""
        numbers = {app_id: number for number, app_id in self._ids.items()}
        rows = await connection.fetch("SELECT app_id, slug, old_slugs FROM apps")
        current = {row["slug"]: (numbers[row["app_id"]], True) for row in rows}
        return current | {old: (numbers[row["app_id"]], False) for row in rows for old in row["old_slugs"]}


async def _passed(app_id: UUID, position: int, recorded_at: datetime) -> None:
    """Nobody else is to be waited for."""


def explained(model: SlugsModel, together: Sequence[Op], outcomes: list[str], owners: dict[str, tuple[int, bool]]) -> SlugsModel | None:
    """The model after some order of these in which they come out like that; None when there is no such order."""
    for order in permutations(range(len(together))):
        after = copy(model)
        found = {index: after.ask(together[index], SLUGS, model.created + index) for index in order}
        if [found[index] for index in range(len(together))] == outcomes and after.owners == owners:
            after.created += len(together)
            return after
    return None


@settings(max_examples=25)
@given(batches=st.lists(st.lists(ops, min_size=1, max_size=3), min_size=1, max_size=12))
async def test_slugs_are_as_in_some_order(server_dsn: str, template: str, batches: list[list[Op]]) -> None:
    async with (
        cloned(server_dsn, template) as dsn,
        open_pool(dsn, 4) as pool,
        open_log(dsn, pool, rules=RULES, codec=StructMapper(EVENTS), project=projector(PROJECTIONS)) as one,
        open_log(dsn, pool, rules=RULES, codec=StructMapper(EVENTS), project=projector(PROJECTIONS)) as two,
    ):
        instance, model = Instance(PgReader(pool), (one, two)), SlugsModel(owners={}, living=frozenset(), created=0)
        connection = await asyncpg.connect(dsn)
        try:
            for together in batches:
                outcomes = [""] * len(together)

                async def ask(index: int, op: Op, outcomes: list[str] = outcomes, first: int = model.created) -> None:
                    outcomes[index] = await instance.ask(op, first + index)

                async with anyio.create_task_group() as tasks:
                    for index, op in enumerate(together):
                        tasks.start_soon(ask, index, op)
                owners = await instance.owners(connection)
                after = explained(model, together, outcomes, owners)
                assert after is not None, (model, together, outcomes, owners)
                model = after
                await names_agree(connection)
        finally:
            await connection.close()
        assert (await verify_projections(dsn, ["apps"])).clean
