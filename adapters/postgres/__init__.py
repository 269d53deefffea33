"""PostgreSQL through asyncpg: the log, reads, the vault, migrations, and the embedded server."""
