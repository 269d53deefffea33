"""`/api/v1/schema`: the OpenAPI document alone, no page around it: those load their scripts from elsewhere."""

from __future__ import annotations

from typing import Any, Final

import anyio.to_thread
import msgspec
from litestar import Litestar, Request, Response, Router, get

from web.admin.needs import NO_CREDENTIAL
from web.documented import Answer, documented
from web.openapi.document import build_document

_PATH: Final = "/api/v1/schema"
_MEDIA_TYPE: Final = "application/vnd.oai.openapi+json"
_ANSWER: Final = Answer(description="The document.", shape=dict[str, Any], media_type=_MEDIA_TYPE)


@get(_PATH, media_type=_MEDIA_TYPE, opt=documented(answers={200: _ANSWER}))
async def read_schema(request: Request[Any, Any, Any]) -> Response[bytes]:
    """This document. It is made when it is first asked for; `/api/v1/schema/openapi.json` is the same."""
    return Response(await _encoded(request.app), media_type=_MEDIA_TYPE)


@get(f"{_PATH}/openapi.json", media_type=_MEDIA_TYPE, include_in_schema=False)
async def read_schema_file(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The document by the name that some tools expect."""
    return Response(await _encoded(request.app), media_type=_MEDIA_TYPE)


async def _encoded(app: Litestar) -> bytes:
    document: bytes | None = app.state.get("openapi")
    if document is None:
        document = await anyio.to_thread.run_sync(lambda: msgspec.json.encode(build_document(app)))
        app.state.openapi = document
    return document


router: Final = Router(path="/", route_handlers=[read_schema, read_schema_file], tags=["system"], opt=NO_CREDENTIAL)
