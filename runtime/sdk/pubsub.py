"""pubsub for scripts: messages become events with the run's commit; subscribers' tokens are signed at once."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain.authz import Capability
from domain.errors import Invalid
from domain.events import Event
from domain.pubsub import MAX_MESSAGE_BYTES, Publish, Published, check_topic
from domain.units import Change
from domain.values import decode_json
from runtime.services import Access, Service, as_script_error, rfc3339
from runtime.subscribers import Wanted, parse_wanted, sign_token


async def pubsub_token(access: Access, topics: object, ttl: object = 3600) -> str:
    """A token for these topics. Only for a principal who may publish: an anonymous caller's script is no gate for that."""
    if access.principal is None:
        raise PermissionError("pubsub: subscriber_token needs an authenticated principal")
    access.require("pubsub", Capability.PUBSUB_PUBLISH)
    keys = access.resources.subscriber_keys
    if keys is None:
        raise RuntimeError("pubsub: there are no subscribers here")
    try:
        wanted: Wanted = parse_wanted(topics)
        return (await sign_token(access.reader, keys, access.app_id, wanted, ttl, access.now)).token
    except Invalid as error:
        raise as_script_error(error, "pubsub") from error


def pubsub_publish(access: Access, topic: object, text: object) -> Change:
    """The effect of `publish_durable`; `text` is JSON."""
    access.require("pubsub", Capability.PUBSUB_PUBLISH)
    try:
        return Change(Publish(topic=check_topic(topic), message=msgspec.Raw(_canonical(text))))
    except Invalid as error:
        raise as_script_error(error, "pubsub") from error


def describe(event: Event, before: Event | None) -> dict[str, Any]:
    """`ctx.event.pubsub`."""
    del before
    if not isinstance(event, Published):
        msg = f"{event.TOPIC} is no event of pubsub"
        raise TypeError(msg)
    return {"topic": event.topic, "message": msgspec.json.decode(event.message), "published_at": rfc3339(event.published_at)}


def _canonical(text: object) -> bytes:
    if not isinstance(text, str):
        raise Invalid("message must be JSON text", field="message")
    return msgspec.json.encode(decode_json(text.encode(errors="surrogatepass"), "message", max_bytes=MAX_MESSAGE_BYTES))


PUBSUB: Final = Service(
    name="pubsub",
    calls={"pubsub_token": pubsub_token},
    confidential=frozenset({"pubsub_token"}),
    effects={"pubsub_publish": pubsub_publish},
    needs={"pubsub_publish": Capability.PUBSUB_PUBLISH},
    event=describe,
)
