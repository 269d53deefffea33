"""Every setting: one tree, read once from the environment and passed in. Units are in the names; a day has 86,400 s, a MiB 1,048,576 bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from domain.errors import Invalid
from runtime.environment import Address, Secret, describe, read, render, variable

Role = Literal["web", "reactor", "scheduler"]

_MIB: Final = 1024 * 1024
_WARM_WORKERS: Final = 32


def _cores() -> int:
    """The cores that this process may use; at most as many as warm workers are kept by default."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _WARM_WORKERS)


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how requests come in."""

    bind: Annotated[Address, variable("PICLOUD_BIND", "Where HTTP is served; port 0 takes any free one.")] = Address("127.0.0.1", 8000)
    public_base_url: Annotated[
        str | None,
        variable(
            "PICLOUD_PUBLIC_BASE_URL",
            "Where people reach this instance, if a proxy or a tunnel stands before it.",
            expected="an http or https URL without a trailing slash",
            pattern=r"^https?://[^\s/?#]+(/[^\s?#]*[^\s/?#])?\Z",
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        variable(
            "PICLOUD_TRUSTED_PROXIES",
            "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
            expected="a comma-separated list of addresses or networks",
            default="none",
        ),
    ] = ()
    max_body_bytes: Annotated[int, variable("PICLOUD_MAX_BODY_BYTES", "Largest request body.", ge=1024, le=1024 * _MIB)] = 10 * _MIB


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """The first owner; without effect once any user exists."""

    username: Annotated[str, variable("PICLOUD_ADMIN_USERNAME", "Name of the first owner.", min_length=1, max_length=64, expected="1 to 64 characters")] = (
        "admin"
    )
    password: Annotated[
        Secret | None,
        variable(
            "PICLOUD_ADMIN_PASSWORD",
            "Password of the first owner.",
            min_length=8,
            max_length=1024,
            expected="8 to 1024 characters",
            default="generated, printed once",
        ),
    ] = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Logins."""

    ttl_s: Annotated[int, variable("PICLOUD_SESSION_TTL_S", "How long a session lives after its last use.", ge=60, le=31_536_000)] = 86_400
    cookie_secure: Annotated[
        Literal["auto", "always", "never"],
        variable("PICLOUD_COOKIE_SECURE", "Whether the session cookie is for TLS alone; auto: when the public base URL is https."),
    ] = "auto"


class Postgres(msgspec.Struct, frozen=True, kw_only=True):
    """The database. `url` is None for the embedded server."""

    url: Annotated[
        Secret | None,
        variable(
            "DATABASE_URL",
            "A PostgreSQL server (15 or newer) to use instead of the embedded one.",
            expected="a postgresql:// URL",
            default="the embedded server",
            pattern=r"^postgres(ql)?://\S*\Z",
        ),
    ] = None
    pool_max: Annotated[int, variable("PICLOUD_PG_POOL_MAX", "Connections for reads, per process; half of them for those of scripts.", ge=1, le=1000)] = 10


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """Processes, and how they know of each other."""

    workers: Annotated[int, variable("PICLOUD_WORKERS", "Equal processes behind one port.", ge=1, le=256)] = 1
    roles: Annotated[
        tuple[Role, ...],
        variable("PICLOUD_ROLES", "What this process does.", min_length=1),
    ] = ("web", "reactor", "scheduler")
    beat_s: Annotated[float, variable("PICLOUD_WORKER_BEAT_S", "Between two signs of life of a process.", ge=0.05, le=3600)] = 5.0
    dead_s: Annotated[
        float,
        variable("PICLOUD_WORKER_DEAD_S", "Silence after which a process is taken for dead; at least twice the beat.", ge=0.1, le=7200),
    ] = 20.0
    tail_poll_ms: Annotated[
        int,
        variable("PICLOUD_TAIL_POLL_MS", "Between two looks for changes whose wake-up was lost.", ge=10, le=60_000),
    ] = 500


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where scripts run, per process."""

    slots: Annotated[
        int,
        variable(
            "PICLOUD_SANDBOX_SLOTS",
            "Cores' worth of scripts: four times as many runs have a seat at one time, as long as there are warm workers.",
            ge=1,
            le=1024,
            default="one per core, at most 32",
        ),
    ] = msgspec.field(default_factory=_cores)
    warm_workers: Annotated[int, variable("PICLOUD_SANDBOX_WARM_WORKERS", "Worker processes kept ready; at least the slots.", ge=1, le=4096)] = _WARM_WORKERS
    recycle_runs: Annotated[int, variable("PICLOUD_SANDBOX_RECYCLE_RUNS", "Runs after which a worker is replaced.", ge=1, le=1_000_000)] = 1000


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What a script's own limits may not exceed."""

    max_timeout_s: Annotated[float, variable("PICLOUD_MAX_TIMEOUT_S", "Time limit of a script that a caller waits for.", ge=0.1, le=3600)] = 60.0
    max_async_timeout_s: Annotated[float, variable("PICLOUD_MAX_ASYNC_TIMEOUT_S", "Time limit of any script.", ge=0.1, le=86_400)] = 300.0
    max_memory_mib: Annotated[int, variable("PICLOUD_MAX_MEMORY_MIB", "Memory of a run.", ge=16, le=65_536)] = 256
    max_host_calls: Annotated[int, variable("PICLOUD_MAX_HOST_CALLS", "Host calls of a run.", ge=1, le=1_000_000)] = 10_000
    max_output_bytes: Annotated[int, variable("PICLOUD_MAX_OUTPUT_BYTES", "Answer, logs and prints of a run.", ge=1024, le=1024 * _MIB)] = 10 * _MIB
    max_recursion: Annotated[int, variable("PICLOUD_MAX_RECURSION", "Depth of calls in a run.", ge=10, le=1000)] = 500


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """How many script requests are let in, per process; the others are told to come again (503)."""

    slots: Annotated[int, variable("PICLOUD_GATE_SLOTS", "Script requests in progress.", ge=1, le=100_000)] = 64
    queue: Annotated[int, variable("PICLOUD_GATE_QUEUE", "Script requests that wait for one of these.", ge=0, le=1_000_000)] = 256
    wait_s: Annotated[float, variable("PICLOUD_GATE_WAIT_S", "How long they wait at most.", ge=0, le=600)] = 5.0


class Realtime(msgspec.Struct, frozen=True, kw_only=True):
    """Live subscribers, per process; those above are told to come again."""

    max_subscribers: Annotated[int, variable("PICLOUD_LIVE_MAX", "Live subscribers in all (503 above).", ge=0, le=1_000_000)] = 10_000
    max_per_app: Annotated[int, variable("PICLOUD_LIVE_MAX_PER_APP", "Live subscribers of one app (503 above).", ge=0, le=1_000_000)] = 5_000
    max_per_address: Annotated[
        int, variable("PICLOUD_LIVE_MAX_PER_ADDRESS", "Live subscribers from one address, or the /64 of an IPv6 one (429 above).", ge=0, le=1_000_000)
    ] = 1_000
    heartbeat_s: Annotated[float, variable("PICLOUD_LIVE_HEARTBEAT_S", "Between two heartbeats to a live subscriber.", ge=0.05, le=3600)] = 30.0


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What read models keep. The log keeps everything."""

    executions_days: Annotated[float, variable("PICLOUD_RETAIN_EXECUTIONS_DAYS", "Records of executions.", ge=0.01, le=36_500)] = 7.0
    dead_letters_days: Annotated[float, variable("PICLOUD_RETAIN_DEAD_LETTERS_DAYS", "Dead letters.", ge=0.01, le=36_500)] = 30.0
    abandoned_days: Annotated[float, variable("PICLOUD_RETAIN_ABANDONED_DAYS", "Abandoned executions.", ge=0.01, le=36_500)] = 7.0
    sweep_interval_s: Annotated[float, variable("PICLOUD_SWEEP_INTERVAL_S", "Between two sweeps of expired keys.", ge=0.05, le=86_400)] = 1.0


class Outbound(msgspec.Struct, frozen=True, kw_only=True):
    """What scripts may call over HTTP, per process."""

    allow_private: Annotated[
        bool,
        variable(
            "PICLOUD_HTTP_ALLOW_PRIVATE",
            "Lets scripts call this machine and the networks around it. For development alone.",
            expected="true or false",
            default="false",
        ),
    ] = False
    low_ports: Annotated[
        tuple[int, ...],
        variable(
            "PICLOUD_HTTP_LOW_PORTS",
            "Ports below 1024 that scripts may call; from 1024 on they may call any.",
            expected="a comma-separated list of ports",
            default="80,443",
        ),
    ] = (80, 443)
    calls: Annotated[int, variable("PICLOUD_HTTP_CALLS", "Outbound calls in progress; the others wait.", ge=1, le=10_000)] = 64
    calls_per_app: Annotated[int, variable("PICLOUD_HTTP_CALLS_PER_APP", "The same, of one app.", ge=1, le=10_000)] = 16


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What values of secrets are encrypted with. `old_keys` are several, with commas between them."""

    key: Annotated[
        Secret | None,
        variable(
            "PICLOUD_SECRETS_KEY",
            "The key that secrets are encrypted with.",
            expected="32 bytes in base64",
            default="made at first use, in secrets.key under PICLOUD_DATA_DIR",
            pattern=r"^[A-Za-z0-9+/_-]{43}=?\Z",
        ),
    ] = None
    old_keys: Annotated[
        Secret | None,
        variable(
            "PICLOUD_SECRETS_OLD_KEYS",
            "Keys that secrets may still be encrypted with, until `picloud secrets rotate` has run.",
            expected="a comma-separated list of keys",
            pattern=r"^[A-Za-z0-9+/_-]{43}=?(,[A-Za-z0-9+/_-]{43}=?)*\Z",
        ),
    ] = None


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Files, and where their bytes are. `url` is None for a directory beside the database."""

    max_file_bytes: Annotated[int, variable("PICLOUD_MAX_FILE_BYTES", "Largest file.", ge=1024, le=1024 * 1024 * _MIB)] = 100 * _MIB
    max_run_bytes: Annotated[
        int, variable("PICLOUD_MAX_RUN_FILE_BYTES", "File bytes that one run of a script may store altogether.", ge=1024, le=1024 * 1024 * _MIB)
    ] = 100 * _MIB
    grace_s: Annotated[
        float,
        variable("PICLOUD_BLOB_GRACE_S", "Age at which stored bytes that no event names are removed; at least the longest run.", ge=1, le=31_536_000),
    ] = 86_400.0
    # Not secrets, but somebody may have written one into them, and then the error must not show it.
    url: Annotated[
        Secret | None,
        variable(
            "PICLOUD_BLOB_URL",
            "Bucket (and prefix) of an S3-compatible store for the bytes of files.",
            expected="an s3://bucket/prefix URL",
            default="the directory blobs under PICLOUD_DATA_DIR",
            pattern=r"^s3://[A-Za-z0-9._-]+(/[A-Za-z0-9._/-]*)?\Z",
        ),
    ] = None
    endpoint: Annotated[
        Secret | None,
        variable(
            "PICLOUD_BLOB_ENDPOINT",
            "Where that store is.",
            expected="an http or https URL without credentials",
            default="AWS",
            pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?\Z",
        ),
    ] = None
    region: Annotated[str | None, variable("PICLOUD_BLOB_REGION", "The region of that store.", default="us-east-1")] = None
    access_key_id: Annotated[Secret | None, variable("PICLOUD_BLOB_ACCESS_KEY_ID", "Its access key.", default="the machine's AWS credentials")] = None
    secret_access_key: Annotated[
        Secret | None, variable("PICLOUD_BLOB_SECRET_ACCESS_KEY", "The secret to that key.", default="the machine's AWS credentials")
    ] = None


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What PiCloud itself logs to its standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], variable("PICLOUD_LOG_LEVEL", "The least severe level that is logged.")] = "info"
    format: Annotated[Literal["console", "json"], variable("PICLOUD_LOG_FORMAT", "For people or for machines.")] = "console"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. Only secrets do not show in its repr."""

    data_dir: Annotated[Path, variable("PICLOUD_DATA_DIR", "Where the embedded database and the blobs are.")] = Path(".picloud")
    http: Http = Http()
    admin: Admin = Admin()
    session: Session = Session()
    pg: Postgres = Postgres()
    process: Process = Process()
    sandbox: SandboxSettings = msgspec.field(default_factory=SandboxSettings)
    ceilings: Ceilings = Ceilings()
    gate: Gate = Gate()
    realtime: Realtime = Realtime()
    retention: Retention = Retention()
    outbound: Outbound = Outbound()
    secrets: Secrets = Secrets()
    files: Files = Files()
    log: Log = Log()


VARIABLES: Final = describe(Settings)


def load_settings(env: Mapping[str, str]) -> Settings:
    """Read the settings. Raises Invalid naming the variable and what was expected; variables beside `PICLOUD_…` and `DATABASE_URL` are ignored."""
    settings = read(Settings, env)
    _at_least("PICLOUD_WORKER_DEAD_S", settings.process.dead_s, "twice PICLOUD_WORKER_BEAT_S", 2 * settings.process.beat_s)
    _at_least("PICLOUD_SANDBOX_WARM_WORKERS", settings.sandbox.warm_workers, "PICLOUD_SANDBOX_SLOTS", settings.sandbox.slots)
    _at_least("PICLOUD_MAX_ASYNC_TIMEOUT_S", settings.ceilings.max_async_timeout_s, "PICLOUD_MAX_TIMEOUT_S", settings.ceilings.max_timeout_s)
    _at_least("PICLOUD_BLOB_GRACE_S", settings.files.grace_s, "PICLOUD_MAX_ASYNC_TIMEOUT_S", settings.ceilings.max_async_timeout_s)
    _check_networks("PICLOUD_TRUSTED_PROXIES", settings.http.trusted_proxies)
    return settings


def settings_help(*, markdown: bool = False) -> str:
    """All variables with what they take and mean: for `picloud serve --help`, or as the README's table."""
    return render(VARIABLES, markdown=markdown)


def _at_least(name: str, value: float, other: str, bound: float) -> None:
    if value < bound:
        raise Invalid(f"{name}: expected at least {other} ({bound:g}), not {value:g}", field=name)


def _check_networks(name: str, networks: Sequence[str]) -> None:
    """Whoever is believed may say whose request it is, so a word that would be taken for anybody, or for nobody, is refused."""
    for text in networks:
        try:
            prefix = ip_network(text).prefixlen
        except ValueError:
            prefix = 0
        if not prefix:
            raise Invalid(f"{name}: expected addresses or networks like 10.0.0.0/8, not {text!r}", field=name)
