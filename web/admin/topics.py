"""`/apps/{app}/topics`: what may be followed live, publishing, subscribers' tokens and the keys that sign them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Router, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter

from adapters.postgres.subscriber_keys import KeyState
from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from domain.errors import Invalid
from domain.topics import KINDS, AuthMode, Topic, TopicKind
from projections.topics.reads import StoredTopic
from runtime.admin.topics import Message, TopicChange
from runtime.subscribers import Token, parse_wanted
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import topics_of
from web.documented import Action, documented
from web.pages import Page, page
from web.paths import segment

_PUBLISH: Final = ":publish"


_PUBLISHING: Final = Action(id="publish_message", suffix=_PUBLISH, summary="Publish a message; the topic need not be registered")
Kind = Annotated[str | None, QueryParameter(schema_extra={"enum": list(KINDS), "default": "topic", "description": "Of which kind it is."})]


class CreateTopic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be registered. For kv and docs the name is the collection's."""

    kind: TopicKind = "topic"
    name: str
    external_subscribable: bool = False
    auth_mode: AuthMode = "token"


class PublishMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any JSON value."""

    message: Any


class CreateToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names that the token is for; `ttl` in seconds is brought within 10 s and 24 h."""

    topics: list[str] = []
    kv: list[str] = []
    docs: list[str] = []
    ttl: float = 3600


class SubscriberKeys(msgspec.Struct, frozen=True):
    """A list that is never long."""

    items: list[KeyState]


@get("/apps/{app:str}/topics", opt=needs(Capability.TOPICS_MANAGE))
async def list_topics(call: Call, app: Segment, limit: Query = None, cursor: Query = None) -> Page[StoredTopic]:
    """The registered topics of an app by kind and name."""
    found = await call.app(app)
    size = parse_limit(limit)
    after = None if cursor is None else decode(cursor, "topics", (str, str))
    topics = await topics_of(call).page(found.app_id, None if after is None else (after[0], after[1]), size + 1)
    return page(topics, size, lambda topic: encode("topics", topic.kind, topic.name))


@post("/apps/{app:str}/topics", opt=needs(Capability.TOPICS_MANAGE))
async def create_topic(call: Call, app: Segment, data: JSONBody[CreateTopic]) -> StoredTopic:
    """Register a topic. 409 when it is registered already."""
    found = await call.app(app)
    topic = Topic(kind=data.kind, name=data.name, external_subscribable=data.external_subscribable, auth_mode=data.auth_mode)
    return await topics_of(call).create(found.app_id, topic, call.acting)


@patch("/apps/{app:str}/topics/{name:str}", opt=needs(Capability.TOPICS_MANAGE))
async def update_topic(call: Call, app: Segment, name: Segment, data: JSONBody[TopicChange], kind: Kind = None) -> StoredTopic:
    """Change a topic; `?kind=` says of which kind, `topic` if it is not there. Live subscribers who may no longer listen are disconnected."""
    found = await call.app(app)
    return await topics_of(call).update(found.app_id, _kind(kind), segment(name, "name"), data, call.acting)


@delete("/apps/{app:str}/topics/{name:str}", opt=needs(Capability.TOPICS_MANAGE))
async def delete_topic(call: Call, app: Segment, name: Segment, kind: Kind = None) -> None:
    """Make a topic internal again; its live subscribers are disconnected."""
    found = await call.app(app)
    await topics_of(call).delete(found.app_id, _kind(kind), segment(name, "name"), call.acting)


@post("/apps/{app:str}/topics/{name:str}", status_code=201, opt=needs(Capability.PUBSUB_PUBLISH) | documented(actions=(_PUBLISHING,)))
async def publish_message(call: Call, app: Segment, name: Segment, data: JSONBody[PublishMessage]) -> Message:
    """`…/{name}:publish`: publish a message. The topic need not be registered."""
    found = await call.app(app)
    await call.admit_write(found.app_id)
    topic = segment(name, "name").removesuffix(_PUBLISH)
    return await topics_of(call).send(found.app_id, topic, data.message, call.acting)


@post("/apps/{app:str}/topics:token", status_code=201, opt=needs(Capability.PUBSUB_PUBLISH))
async def create_subscriber_token(call: Call, app: Segment, data: JSONBody[CreateToken]) -> Token:
    """A token for live subscribers; every name must be externally subscribable."""
    found = await call.app(app)
    wanted = parse_wanted({"topics": data.topics, "kv": data.kv, "docs": data.docs})
    return await topics_of(call).token(found.app_id, wanted, data.ttl)


@get("/apps/{app:str}/subscriber-keys", opt=needs(Capability.TOPICS_MANAGE))
async def list_subscriber_keys(call: Call, app: Segment) -> SubscriberKeys:
    """The keys that sign subscribers' tokens, newest first, without what is secret in them."""
    found = await call.app(app)
    return SubscriberKeys(await topics_of(call).keys(found.app_id))


@post("/apps/{app:str}/subscriber-keys:rotate", status_code=201, opt=needs(Capability.TOPICS_MANAGE))
async def rotate_subscriber_key(call: Call, app: Segment) -> KeyState:
    """Sign by a new key from here on; tokens of the one before live on until they expire, unless it is revoked."""
    found = await call.app(app)
    return await topics_of(call).rotate_key(found.app_id, call.acting)


@delete("/apps/{app:str}/subscriber-keys/{kid:str}", opt=needs(Capability.TOPICS_MANAGE))
async def revoke_subscriber_key(call: Call, app: Segment, kid: Segment) -> None:
    """End a key, its tokens, and the streams that they have opened."""
    found = await call.app(app)
    await topics_of(call).revoke_key(found.app_id, segment(kid, "kid"), call.acting)


def _kind(text: str | None) -> TopicKind:
    found = next((kind for kind in KINDS if kind == (text or "topic")), None)
    if found is None:
        raise Invalid(f"kind: expected one of {', '.join(KINDS)}", field="kind")
    return found


router: Final = Router(
    path="/",
    route_handlers=[
        list_topics,
        create_topic,
        update_topic,
        delete_topic,
        publish_message,
        create_subscriber_token,
        list_subscriber_keys,
        rotate_subscriber_key,
        revoke_subscriber_key,
    ],
    tags=["topics"],
)
