"""`/apps/{app}/secrets`: write-only. Names are listed; no answer ever has a value."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar import Router, delete, get, put
from litestar.params import JSONBody

from domain.authz import Capability
from domain.cursors import decode, encode, parse_limit
from projections.secrets.reads import SecretView
from web.admin.call import Call
from web.admin.needs import needs
from web.admin.parameters import Query, Segment
from web.admin.services import secrets_of
from web.pages import Page, page
from web.paths import segment


class PutSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value: text."""

    value: str


@get("/apps/{app:str}/secrets", opt=needs(Capability.SECRETS_MANAGE))
async def list_secrets(call: Call, app: Segment, limit: Query = None, cursor: Query = None) -> Page[SecretView]:
    """The secrets of an app by name."""
    found = await call.app(app)
    size = parse_limit(limit)
    (after,) = (None,) if cursor is None else decode(cursor, "secrets", (str,))
    return page(await secrets_of(call).page(found.app_id, after, size + 1), size, lambda secret: encode("secrets", secret.name))


@put("/apps/{app:str}/secrets/{name:str}", opt=needs(Capability.SECRETS_MANAGE))
async def put_secret(call: Call, app: Segment, name: Segment, data: JSONBody[PutSecret]) -> SecretView:
    """Set a secret."""
    found = await call.app(app)
    return await secrets_of(call).put(found.app_id, segment(name, "name"), data.value, call.acting)


@delete("/apps/{app:str}/secrets/{name:str}", opt=needs(Capability.SECRETS_MANAGE))
async def delete_secret(call: Call, app: Segment, name: Segment) -> None:
    """Delete a secret; 404 when it is absent."""
    found = await call.app(app)
    await secrets_of(call).delete(found.app_id, segment(name, "name"), call.acting)


router: Final = Router(path="/", route_handlers=[list_secrets, put_secret, delete_secret], tags=["secrets"])
