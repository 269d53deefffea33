"""The host's side of the SDK: one module per service, registered here and nowhere else."""

from __future__ import annotations

from typing import Final

from runtime.sdk.cron import CRON
from runtime.sdk.dead_letters import DEAD_LETTERS
from runtime.sdk.docs import DOCS
from runtime.sdk.files import FILES
from runtime.sdk.http import HTTP
from runtime.sdk.ids import IDS
from runtime.sdk.kv import KV
from runtime.sdk.pubsub import PUBSUB
from runtime.sdk.schedule import SCHEDULE
from runtime.sdk.secrets import SECRETS
from runtime.services import AnswerNow, HostCall, Service, ToChange

SERVICES: Final[tuple[Service, ...]] = (
    KV,
    DOCS,
    CRON,
    SCHEDULE,
    IDS,
    DEAD_LETTERS,
    HTTP,
    SECRETS,
    FILES,
    PUBSUB,
)

CALLS: Final[dict[str, HostCall]] = {name: call for service in SERVICES for name, call in service.calls.items()}
NOW: Final[dict[str, AnswerNow]] = {name: answer for service in SERVICES for name, answer in service.now.items()}
SLOW: Final = frozenset(name for service in SERVICES for name in service.slow)
OUTSIDE: Final = frozenset(name for service in SERVICES for name in service.outside)
CONFIDENTIAL: Final = frozenset(name for service in SERVICES for name in service.confidential)
EFFECTS: Final[dict[str, ToChange]] = {name: effect for service in SERVICES for name, effect in service.effects.items()}
NEEDS: Final = {effect: (service.name, capability) for service in SERVICES for effect, capability in service.needs.items()}
EVENTS: Final = {service.name: service.event for service in SERVICES if service.event is not None}
