"""The composition root: everything is opened here, in order, handed to what needs it, and closed in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final
from uuid import UUID

import anyio
import asyncpg
import msgspec
import structlog
from uuid_utils.compat import uuid7

from adapters.outbound import DeferredClient, Policy
from adapters.postgres.api_keys import ApiKeyVault
from adapters.postgres.app_readers import AppReaders, open_app_readers
from adapters.postgres.connect import open_pool
from adapters.postgres.keys import Keys
from adapters.postgres.log import PgLog, open_log
from adapters.postgres.mapper import StructMapper
from adapters.postgres.projecting import Follower
from adapters.postgres.readcheck import ReadCheck
from adapters.postgres.reader import PgReader
from adapters.postgres.secrets import SecretValues
from adapters.postgres.vault import PgVault
from adapters.sandbox import SandboxSettings, open_sandbox
from domain.authz import Principal
from domain.clock import Clock, utc_now
from domain.outbound import Outbound
from domain.ports import Appender
from domain.registry import EVENTS, RULES
from domain.sandbox import Sandbox
from domain.scripts import Ceiling
from projections.control.principals import principal_of_actor
from projections.outbox.claims import Claim
from projections.project import projector
from projections.registry import FOLLOWED, PROJECTIONS
from runtime.access.accounts import Accounts
from runtime.access.api_keys import ApiKeys
from runtime.access.authentication import Authentication
from runtime.access.credentials import Credentials
from runtime.access.log import AccessLog
from runtime.access.passwords import Passwords
from runtime.admin.ceilings import ceiling_of
from runtime.blob_sweep import EVERY_S as BLOB_SWEEP_EVERY_S
from runtime.blob_sweep import BlobSweep
from runtime.blobs import Blobs
from runtime.blobstore import open_blobs
from runtime.cron.scheduler import CronScheduler
from runtime.directory import Directory
from runtime.dispatch import Dispatcher
from runtime.executor import Executor
from runtime.gate import Gate
from runtime.invocation import Invocation, Outcome
from runtime.limits.quotas import Quotas
from runtime.limits.rates import Rates, follow_processes
from runtime.limits.storage import Storage
from runtime.limits.usage import Usage
from runtime.live.hub import Live
from runtime.live.metrics import LiveMetrics
from runtime.live.snapshots import Snapshots
from runtime.maintenance import Job, Maintenance, alone, retention_job, scheduled
from runtime.metrics import MeteredAppender, Metrics
from runtime.presence import bury, present
from runtime.purge import Purge
from runtime.reactor import Reactor
from runtime.records import Records, record_of
from runtime.requests import Requests
from runtime.secrets import Secrets, keyring_of
from runtime.services import Resources
from runtime.settings import Settings
from runtime.subscribers import subscriber_keys

REACTOR_SLOTS_PER_SANDBOX_SLOT: Final = 8
"""Two rows for each of a slot's seats, one that runs and one that is next; all others wait in the outbox."""
_BACKGROUND_POOL: Final = 4
_SWEEP_SECRETS_EVERY_S: Final = 3600.0
_SWEEP_KEYS_EVERY_S: Final = 3600.0
_SWEEP_USAGE_EVERY_S: Final = 86_400.0

logger = structlog.get_logger(__name__)


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """The opened parts, for the web layer and for tests."""

    settings: Settings
    worker_id: UUID
    pool: asyncpg.Pool
    locks: asyncpg.Pool
    reader: PgReader
    app_readers: AppReaders
    log: PgLog
    appender: Appender
    sandbox: Sandbox
    blobs: Blobs
    blob_sweep: BlobSweep
    directory: Directory
    executor: Executor
    reactor: Reactor
    records: Records
    gate: Gate
    rates: Rates
    usage: Usage
    quotas: Quotas
    access: AccessLog
    credentials: Credentials
    accounts: Accounts
    api_keys: ApiKeys
    authentication: Authentication
    vault: PgVault
    secrets: Secrets
    metrics: Metrics
    maintenance: Maintenance
    cron: CronScheduler
    followers: tuple[Follower, ...]
    requests: Requests
    live: Live
    purge: Purge
    snapshots: Snapshots
    ceiling: Ceiling
    clock: Clock


@asynccontextmanager
async def open_platform(dsn: str, settings: Settings, clock: Clock = utc_now) -> AsyncIterator[Platform]:
    """Open everything on a prepared database and run this process's roles until the context ends. What was accepted by then is finished or given back."""
    async with AsyncExitStack() as stack:
        platform = await _compose(stack, dsn, settings, clock)
        roles = settings.process.roles
        await stack.enter_async_context(present(platform.reader, platform.worker_id, roles, settings.process.beat_s))
        if "scheduler" in roles:
            await stack.enter_async_context(scheduled(platform.locks, _jobs(platform)))
        await stack.enter_async_context(_background(platform, roles))
        yield platform


async def _compose(stack: AsyncExitStack, dsn: str, settings: Settings, clock: Clock) -> Platform:
    worker_id: UUID = uuid7()
    metrics = Metrics()
    for_scripts = max(settings.pg.pool_max // 2, 1)
    pool = await stack.enter_async_context(open_pool(dsn, max(settings.pg.pool_max - for_scripts, 1)))
    reader = PgReader(pool)
    app_readers = await stack.enter_async_context(open_app_readers(dsn, for_scripts))
    locks = await stack.enter_async_context(open_pool(dsn, 1))
    # A claim that a crash undoes was never needed (see `projections.outbox.claims`), so claims need not wait for the disk.
    background = PgReader(await stack.enter_async_context(open_pool(dsn, _BACKGROUND_POOL, synchronous_commit="off")))
    codec = StructMapper(EVENTS)
    log = await stack.enter_async_context(
        open_log(dsn, pool, rules=RULES, codec=codec, project=projector(PROJECTIONS), clock=clock, poll_s=settings.process.tail_poll_ms / 1000)
    )
    blobs = open_blobs(settings, metrics)
    appender = MeteredAppender(log, metrics)
    sandbox_settings = _sandbox_settings(settings)
    sandbox = await stack.enter_async_context(open_sandbox(sandbox_settings))
    directory = Directory(reader, worker_id, settings.process.dead_s)
    ceiling = ceiling_of(settings.ceilings)
    secrets = Secrets(keyring_of(settings), SecretValues(reader))
    usage = Usage(background, clock)
    quotas = Quotas(directory, usage, Storage(reader, log.head, clock), log, clock)
    resources = Resources(
        http=_outbound(settings, metrics), secrets=secrets, blobs=blobs, admit_bytes=quotas.admit_bytes, subscriber_keys=subscriber_keys(reader)
    )
    executor = Executor(
        appender, app_readers, log.recall, ReadCheck(app_readers, RULES, codec.decode), sandbox, clock, seats=sandbox_settings.in_flight, resources=resources
    )
    records = Records(background, clock)
    vault = PgVault(pool)
    access = AccessLog(appender, clock)
    credentials = Credentials(vault, Passwords(), access)
    accounts = Accounts(vault, reader, credentials, access, appender, settings.session, clock)
    keys = Keys(reader)
    api_keys = ApiKeys(ApiKeyVault(reader), keys)

    async def principal_of(actor: str) -> Principal | None:
        return await principal_of_actor(reader, actor)

    def done(held: Claim, call: Invocation, outcome: Outcome) -> None:
        metrics.executed(outcome.ending, held.task.source, outcome.duration_s)
        for _ in range(outcome.reruns):
            metrics.rerun()
        records.add(record_of(call, outcome, held.task.source, held.task.trigger_id))

    dispatcher = Dispatcher(appender, executor, directory, principal_of, quotas, clock, ceiling)
    slots = min(settings.sandbox.slots * REACTOR_SLOTS_PER_SANDBOX_SLOT, 2 * sandbox_settings.in_flight)
    reactor = Reactor(log, background, dispatcher, directory, worker_id, slots=slots, dead_after_s=settings.process.dead_s, done=done)
    cron = CronScheduler(reader, appender, partial(alone, locks), clock)
    followers = tuple(Follower(dsn, projection, codec, metrics) for projection in FOLLOWED)
    blob_sweep = BlobSweep(blobs.store, reader, settings.files.grace_s, clock)
    purge = Purge(log, appender, background, partial(alone, locks), blob_sweep.claim, clock)
    live = Live(log, reader, settings.realtime, LiveMetrics(metrics.registry))
    gate = Gate(settings.gate.slots, settings.gate.queue, settings.gate.wait_s, metrics)
    metrics.watch(sandbox_workers=lambda: sandbox.status().workers, gate_in_use=lambda: gate.in_use)
    platform = Platform(
        settings=settings,
        worker_id=worker_id,
        pool=pool,
        locks=locks,
        reader=reader,
        app_readers=app_readers,
        log=log,
        appender=appender,
        sandbox=sandbox,
        blobs=blobs,
        blob_sweep=blob_sweep,
        directory=directory,
        executor=executor,
        reactor=reactor,
        records=records,
        gate=gate,
        rates=Rates(),
        usage=usage,
        quotas=quotas,
        access=access,
        credentials=credentials,
        accounts=accounts,
        api_keys=api_keys,
        authentication=Authentication(accounts, api_keys),
        vault=vault,
        secrets=secrets,
        metrics=metrics,
        maintenance=Maintenance(appender, reader, records, settings.retention, clock),
        cron=cron,
        followers=followers,
        requests=Requests(log, appender, keys, clock),
        live=live,
        purge=purge,
        snapshots=Snapshots(reader, clock),
        ceiling=ceiling,
        clock=clock,
    )
    _listen(platform)
    return platform


def _listen(platform: Platform) -> None:
    """Who is told of this process's commits, in this order, and of what others have appended."""
    log, reactor = platform.log, platform.reactor
    log.on_commit(lambda events, _: platform.directory.changed(events))
    log.on_commit(reactor.committed)
    log.claim_for(reactor)
    log.on_commit(platform.metrics.committed)
    log.on_commit(platform.cron.committed)
    log.on_commit(platform.purge.committed)
    for follower in platform.followers:
        log.on_commit(follower.committed)
        log.wakeups.on_foreign(follower.moved)
    log.wakeups.on_foreign(platform.directory.moved)
    log.wakeups.on_foreign(platform.cron.moved)
    log.wakeups.on_foreign(lambda _app_id, _position: reactor.wake())
    log.wakeups.on_foreign(platform.purge.moved)
    log.wakeups.on_foreign(platform.live.moved)


@asynccontextmanager
async def _background(platform: Platform, roles: Sequence[str]) -> AsyncIterator[None]:
    """The tasks of this process; the reactor is let finish what it runs."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(platform.directory.run)
        tasks.start_soon(platform.records.run)
        tasks.start_soon(platform.usage.run)
        if "web" in roles:
            tasks.start_soon(follow_processes, platform.rates, platform.reader, platform.settings.process.dead_s)
        tasks.start_soon(platform.access.run)
        tasks.start_soon(platform.api_keys.run)
        if "scheduler" in roles:
            tasks.start_soon(platform.cron.run)
            for follower in platform.followers:
                tasks.start_soon(follower.run)
        if "reactor" in roles:
            tasks.start_soon(platform.purge.run)
        tasks.start_soon(platform.live.run)
        async with anyio.create_task_group() as reactor:
            if "reactor" in roles:
                reactor.start_soon(platform.reactor.run)
            try:
                yield
            finally:
                platform.reactor.stop()
        tasks.cancel_scope.cancel()


def _jobs(platform: Platform) -> dict[str, tuple[Job, float]]:
    settings = platform.settings

    async def reclaim() -> None:
        await platform.reactor.reclaim()
        await bury(platform.reader, settings.process.dead_s)

    return {
        "sweep_expired_keys": (platform.maintenance.sweep_expired, settings.retention.sweep_interval_s),
        "reclaim_lost_rows": (reclaim, settings.process.beat_s),
        "sweep_sessions": (platform.accounts.sweep, 60.0),
        "sweep_api_keys": (platform.api_keys.sweep, _SWEEP_KEYS_EVERY_S),
        "sweep_secrets": (platform.secrets.sweep, _SWEEP_SECRETS_EVERY_S),
        "sweep_usage": (platform.usage.retain, _SWEEP_USAGE_EVERY_S),
        "sweep_blobs": (platform.blob_sweep.run, BLOB_SWEEP_EVERY_S),
        "retention": retention_job(platform.maintenance),
    }


def _outbound(settings: Settings, metrics: Metrics) -> Outbound:
    chosen = settings.outbound
    if chosen.allow_private:
        logger.warning("outbound_allows_private", variable="PICLOUD_HTTP_ALLOW_PRIVATE", meaning="scripts can call this machine and the networks around it")
    policy = Policy(allow_private=chosen.allow_private, low_ports=frozenset(chosen.low_ports))

    def make() -> Outbound:
        from adapters.outbound.client import HttpClient, Limits  # noqa: PLC0415  # loaded by the first call

        return HttpClient(policy, Limits(calls=chosen.calls, calls_per_app=chosen.calls_per_app), metrics.called_out)

    return DeferredClient(make)


def _sandbox_settings(settings: Settings) -> SandboxSettings:
    return SandboxSettings(
        slots=settings.sandbox.slots,
        warm_workers=settings.sandbox.warm_workers,
        recycle_after=settings.sandbox.recycle_runs,
        max_memory_mib=settings.ceilings.max_memory_mib,
    )
