"""What the web needs of the rest of PiCloud; the composition root builds an object of this shape."""

from __future__ import annotations

from typing import Protocol

from adapters.postgres.app_readers import AppReaders
from adapters.postgres.log import PgLog
from domain.clock import Clock
from domain.ports import Appender, Reader
from domain.sandbox import Sandbox
from runtime.access.accounts import Accounts
from runtime.access.api_keys import ApiKeys
from runtime.access.authentication import Authentication
from runtime.access.credentials import Credentials
from runtime.access.log import AccessLog
from runtime.blobs import Blobs
from runtime.directory import Directory
from runtime.limits.quotas import Quotas
from runtime.limits.rates import Rates
from runtime.live.hub import Live
from runtime.live.snapshots import Snapshots
from runtime.metrics import Metrics
from runtime.secrets import Secrets
from runtime.settings import Settings


class Core(Protocol):
    """Everything a handler may use. `log` is for reading history, `appender` for adding to it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def log(self) -> PgLog: ...
    @property
    def appender(self) -> Appender: ...
    @property
    def reader(self) -> Reader: ...
    @property
    def app_readers(self) -> AppReaders: ...
    @property
    def sandbox(self) -> Sandbox: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def access(self) -> AccessLog: ...
    @property
    def credentials(self) -> Credentials: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def authentication(self) -> Authentication: ...
    @property
    def api_keys(self) -> ApiKeys: ...
    @property
    def directory(self) -> Directory: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def rates(self) -> Rates: ...
    @property
    def quotas(self) -> Quotas: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def live(self) -> Live: ...
    @property
    def snapshots(self) -> Snapshots: ...
