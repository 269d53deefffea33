"""`picloud rebuild`, `picloud verify` and `picloud secrets rotate`, for people: progress and findings on the terminal, the verdict as exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from adapters.postgres.connect import open_pool
from adapters.postgres.log import open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import Findings, Progress
from adapters.postgres.reader import PgReader
from adapters.postgres.secrets import SecretValues
from domain.clock import utc_now
from domain.errors import Invalid
from domain.registry import EVENTS, RULES
from domain.secrets import KeyProblem
from projections.project import projector
from projections.registry import PROJECTIONS
from runtime.database import prepare_database, rebuild_projections, require_prepared, verify_projections
from runtime.secrets import Secrets, keyring_of
from runtime.settings import Settings


async def rebuild(dsn: str, names: Sequence[str]) -> int:
    """Rebuild projections; 0 when they stand."""
    await prepare_database(dsn)
    await rebuild_projections(dsn, names, _show)
    print(f"rebuilt: {', '.join(names) or 'all'}")
    return 0


async def verify(dsn: str, names: Sequence[str]) -> int:
    """Compare projections with the log and the log with itself; 0 when nothing was found, 1 otherwise."""
    await require_prepared(dsn)
    findings = await verify_projections(dsn, names, _show)
    for line in _lines(findings):
        print(line)
    verdict = "no difference" if findings.clean else f"{len(findings.differences) + len(findings.faults) + findings.omitted} findings"
    print(f"verified {findings.events} events against {findings.rows} rows: {verdict}")
    return 0 if findings.clean else 1


async def rotate_secrets(dsn: str, settings: Settings) -> int:
    """Encrypt all secrets with the current key; 0 when all of them are."""
    await require_prepared(dsn)
    async with (
        open_pool(dsn, 2) as pool,
        open_log(dsn, pool, rules=RULES, codec=StructMapper(EVENTS), project=projector(PROJECTIONS)) as log,
    ):
        try:
            rotated = await Secrets(keyring_of(settings), SecretValues(PgReader(pool))).rotate(log, utc_now)
        except KeyProblem as error:
            raise Invalid(f"secrets: {error}", field="PICLOUD_SECRETS_KEY") from error
    print(f"encrypted anew: {rotated} secrets")
    return 0


def _show(progress: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.phase} {progress.projection} {progress.done}/{progress.total}", end="\n" if progress.phase == "swapped" else "", file=sys.stderr)


def _lines(findings: Findings) -> list[str]:
    lines = [f"log {fault.app_id} at {fault.position}: {fault.kind}: {fault.detail}" for fault in findings.faults]
    for found in findings.differences:
        columns = "; ".join(f"{name}: live {live!r}, replayed {replayed!r}" for name, (live, replayed) in found.columns.items())
        lines.append(f"{found.table} {found.key}: {found.kind}{': ' + columns if columns else ''}")
    if findings.omitted:
        lines.append(f"… and {findings.omitted} more")
    return lines
