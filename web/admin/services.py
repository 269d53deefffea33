"""The services of administration for one call. They hold no state of their own, so each call makes those that it needs."""

from __future__ import annotations

from urllib.parse import urlsplit

from adapters.postgres.api_keys import ApiKeyVault
from domain.authz import Capability, decide
from domain.errors import Invalid
from domain.hosts import parse_exact_host
from runtime.admin.api_keys import OwnKeys
from runtime.admin.app_deletion import AppDeletion
from runtime.admin.app_settings import SettingsOf
from runtime.admin.apps import Apps
from runtime.admin.audit import Audit
from runtime.admin.ceilings import ceiling_of
from runtime.admin.chain import Chains
from runtime.admin.data_docs import DocsData
from runtime.admin.data_files import FilesData
from runtime.admin.data_kv import KvData
from runtime.admin.data_secrets import SecretsData
from runtime.admin.dead_letters import DeadLetters
from runtime.admin.domains import Domains
from runtime.admin.executions import Executions
from runtime.admin.members import Members
from runtime.admin.one_off import OneOffRuns
from runtime.admin.routes import Routes
from runtime.admin.scripts import Scripts
from runtime.admin.sessions import Sessions
from runtime.admin.slugs import HostRules
from runtime.admin.statistics import StatisticsOfApps
from runtime.admin.topics import Topics
from runtime.admin.triggers import Triggers
from runtime.admin.users import Users
from runtime.admin.writing import AdminWriter
from web.admin.call import AdminCall


def apps_of(call: AdminCall) -> Apps:
    """Apps."""
    return Apps(call.core.reader, writer_of(call), host_rules_of(call))


def app_deletion_of(call: AdminCall) -> AppDeletion:
    """The end of apps."""
    return AppDeletion(call.core.reader, writer_of(call), call.core.log)


def domains_of(call: AdminCall) -> Domains:
    """Domains."""
    return Domains(call.core.reader, writer_of(call), host_rules_of(call))


def settings_of(call: AdminCall) -> SettingsOf:
    """Settings of apps, and the instance's."""
    return SettingsOf(call.core.reader, writer_of(call))


def users_of(call: AdminCall) -> Users:
    """Users."""
    return Users(call.core.reader, writer_of(call), call.core.credentials)


def sessions_of(call: AdminCall) -> Sessions:
    """Sessions."""
    return Sessions(call.core.reader, writer_of(call), call.core.credentials, call.core.access)


def own_keys_of(call: AdminCall) -> OwnKeys:
    """The caller's API keys."""
    return OwnKeys(call.core.reader, ApiKeyVault(call.core.reader), call.core.api_keys, writer_of(call), call.identity)


def members_of(call: AdminCall) -> Members:
    """Members of apps."""
    return Members(call.core.reader, call.core.log, writer_of(call), call.core.clock)


def scripts_of(call: AdminCall) -> Scripts:
    """Scripts."""
    return Scripts(call.core.reader, writer_of(call), call.core.sandbox, ceiling_of(call.core.settings.ceilings))


def routes_of(call: AdminCall) -> Routes:
    """Routes."""
    return Routes(call.core.reader, writer_of(call))


def triggers_of(call: AdminCall) -> Triggers:
    """Triggers."""
    return Triggers(call.core.reader, writer_of(call), call.core.clock)


def dead_letters_of(call: AdminCall) -> DeadLetters:
    """Dead letters."""
    return DeadLetters(call.core.reader, call.core.log, writer_of(call), call.core.clock)


def kv_of(call: AdminCall) -> KvData:
    """Key-value data."""
    return KvData(call.core.reader, call.core.log, writer_of(call), call.core.clock)


def topics_of(call: AdminCall) -> Topics:
    """Topics."""
    return Topics(call.core.reader, writer_of(call), call.core.clock)


def docs_of(call: AdminCall) -> DocsData:
    """Documents."""
    return DocsData(call.core.reader, call.core.log, writer_of(call), call.core.clock)


def secrets_of(call: AdminCall) -> SecretsData:
    """Secrets."""
    return SecretsData(call.core.reader, call.core.secrets, writer_of(call))


def files_of(call: AdminCall) -> FilesData:
    """Files."""
    return FilesData(call.core.reader, call.core.log, writer_of(call), call.core.blobs, call.core.clock)


def audit_of(call: AdminCall) -> Audit:
    """Logs."""
    return Audit(call.core.reader, call.core.log)


def executions_of(call: AdminCall) -> Executions:
    """Executions."""
    return Executions(call.core.reader, call.core.log)


def chains_of(call: AdminCall) -> Chains:
    """Chains of executions."""
    return Chains(call.core.reader, call.core.log)


def statistics_of(call: AdminCall) -> StatisticsOfApps:
    """Statistics."""
    return StatisticsOfApps(call.core.reader, call.core.clock)


def one_off_of(call: AdminCall) -> OneOffRuns:
    """Runs that are asked for once."""
    return OneOffRuns(call.core.reader, writer_of(call))


def host_rules_of(call: AdminCall) -> HostRules:
    """Which hosts a caller may give to apps, and of which apps he may be told."""
    principal = call.principal
    return HostRules(
        own_host=_own_host(call.core.settings.http.public_base_url),
        may_take_own=decide(principal, Capability.APPS_CREATE, None).allowed,
        sees=lambda app_id: decide(principal, Capability.APPS_READ, app_id).visible,
    )


def _own_host(public_base_url: str | None) -> str | None:
    """The host of a URL in canonical form; None for what no pattern can match."""
    try:
        return parse_exact_host(urlsplit(public_base_url or "").hostname or "", "host")
    except (ValueError, Invalid):
        return None


def writer_of(call: AdminCall) -> AdminWriter:
    """What services write with."""
    return AdminWriter(call.core.appender, call.core.clock, call.core.directory.passed)
