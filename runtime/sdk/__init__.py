"""The host's side of the SDK: one module per service, registered here and nowhere else."""

from __future__ import annotations

from typing import Final

from runtime.sdk.docs import DOCS
from runtime.sdk.kv import KV
from runtime.sdk.pubsub import PUBSUB
from runtime.services import AnswerNow, HostCall, Service, ToChange

SERVICES: Final[tuple[Service, ...]] = (
    KV,
    DOCS,
    PUBSUB,
)

CALLS: Final[dict[str, HostCall]] = {name: call for service in SERVICES for name, call in service.calls.items()}
NOW: Final[dict[str, AnswerNow]] = {name: answer for service in SERVICES for name, answer in service.now.items()}
SLOW: Final = frozenset(name for service in SERVICES for name in service.slow)
CONFIDENTIAL: Final = frozenset(name for service in SERVICES for name in service.confidential)
EFFECTS: Final[dict[str, ToChange]] = {name: effect for service in SERVICES for name, effect in service.effects.items()}
EVENTS: Final = {service.name: service.event for service in SERVICES if service.event is not None}
