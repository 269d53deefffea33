"""Recognising a credential is part of every request: it looks into indexes alone, however many users, members and keys there are."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest

from domain.statements import load_sql

pytestmark = pytest.mark.anyio

VAULT = load_sql("adapters.postgres", "vault.sql")
KEYS = load_sql("adapters.postgres", "api_keys.sql")
PRINCIPALS = load_sql("projections.control", "principals.sql")
SOMEBODY = UUID(int=0)


FILL = """
INSERT INTO users (user_id, username, username_key, instance_role, active, credential_id, session_epoch, version, created_at)
SELECT md5('u' || n)::uuid, n, n, 'member', true, md5('u' || n)::uuid, 0, 1, now() FROM generate_series(1, 5000) AS n;
INSERT INTO vault_sessions (token_hash, session_id, user_id, epoch, expires_at, address, user_agent)
SELECT decode(md5('s' || n), 'hex'), md5('s' || n)::uuid, md5('u' || n)::uuid, 0, now() + interval '1 day', '', '' FROM generate_series(1, 5000) AS n;
INSERT INTO members SELECT md5('a' || n)::uuid, md5('u' || n % 5000)::uuid, 'viewer', 1, now() FROM generate_series(1, 20000) AS n;
INSERT INTO api_keys SELECT md5('k' || n)::uuid, md5('u' || n % 5000)::uuid, 'k', n, '{script:read}', NULL, NULL, 1, now() FROM generate_series(1, 10000) AS n;
INSERT INTO vault_api_keys (key_id, prefix, hash) SELECT md5('k' || n)::uuid, n, '' FROM generate_series(1, 10000) AS n;
ANALYZE;
SET plan_cache_mode = force_generic_plan
"""
"""5000 users, each with a session, two keys and four memberships."""


async def test_recognising_somebody_reads_no_table_whole(connection: asyncpg.Connection) -> None:
    await connection.execute(FILL)
    for sql, args, indexes in (
        (VAULT["find_session"], (b"", 60.0), ("vault_sessions_pkey", "users_pkey", "members_user")),
        (KEYS["find"], ("1", 60.0, b""), ("vault_api_keys_prefix_key", "api_keys_pkey", "users_pkey", "members_user")),
        (KEYS["page"], (SOMEBODY, None, 50), ("api_keys_user", "vault_api_keys_pkey")),
        (KEYS["room"], (SOMEBODY, None), ("api_keys_user",)),
        (KEYS["note_uses"], ([SOMEBODY],), ("vault_api_keys_pkey",)),
        (PRINCIPALS["user"], (SOMEBODY,), ("users_pkey", "members_user")),
        (PRINCIPALS["key"], (SOMEBODY,), ("api_keys_pkey", "users_pkey", "members_user")),
    ):
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *args))
        assert "Seq Scan" not in plan, plan
        for index in indexes:
            assert index in plan, (index, plan)
