"""`/api-keys`: one's own keys. A token is shown once, when its key is made."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.params import JSONBody, PathParameter

from adapters.postgres.api_keys import KeyView
from domain.authz import Capability, Scope
from domain.cursors import decode, encode, parse_limit
from runtime.admin.api_keys import NewKey, WantedKey
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query
from web.admin.services import own_keys_of
from web.pages import Page, page
from web.paths import id_segment

ApiKeyId = Annotated[str, PathParameter(schema_extra={"format": "uuid", "description": "An API key's id."})]


class CreateApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key. With `app_id`, an id or a slug, it works in that app alone; without `expires_at` (RFC 3339) it never expires."""

    name: str
    scopes: list[Scope]
    app_id: str | None = None
    expires_at: str | None = None


@get("/api-keys", opt=needs(Capability.KEYS_MANAGE))
async def list_api_keys(call: Call, limit: Query = None, cursor: Query = None) -> Page[KeyView]:
    """The caller's keys in the order of their creation, expired ones too."""
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "api_keys", (UUID,))
    return page(await own_keys_of(call).page(after, size + 1), size, lambda key: encode("api_keys", key.id))


@post("/api-keys", opt=needs(Capability.KEYS_MANAGE))
async def create_api_key(call: Call, data: JSONBody[CreateApiKey]) -> Response[NewKey]:
    """Make a key; `token` is shown this once. 422 `cannot_escalate` for one that is wider than the key that asks; 409 `too_many_keys`."""
    app_id = None if data.app_id is None else await call.app_id(data.app_id)
    wanted = WantedKey(name=data.name, scopes=data.scopes, app_id=app_id, expires_at=data.expires_at)
    made = await own_keys_of(call).create(wanted, call.acting)
    return Response(made, headers={"cache-control": "no-store"})


@delete("/api-keys/{key:str}", opt=needs(Capability.KEYS_MANAGE))
async def revoke_api_key(call: Call, key: ApiKeyId) -> None:
    """End a key of one's own. 404 for one that has ended, and for another user's."""
    await own_keys_of(call).revoke(id_segment(key, "API key"), call.acting)


router: Final = Router(path="/", route_handlers=[list_api_keys, create_api_key, revoke_api_key], tags=["api keys"])
