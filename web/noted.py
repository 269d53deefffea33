"""What the data plane has the log of access tell: where API keys are used, and which direct runs were refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from domain.authz import Capability, Principal
from domain.errors import NotFound, PiCloudError, Unauthenticated
from runtime.access.log import AccessLog, Refusal
from web.requests import address_of, request_id_of
from web.security import credential_of

_DIRECT_RUN: Final = "/api/v1/execute/{script_id}"


def note_key(access: AccessLog, scope: Mapping[str, Any], principal: Principal | None) -> None:
    """Note the use of an API key, if it is one."""
    if principal is not None and principal.kind == "key" and principal.id is not None and principal.grounds is not None:
        access.key_used(principal.id, principal.grounds.user_id, address_of(scope))


def note_refused_run(access: AccessLog, scope: Mapping[str, Any], error: PiCloudError, principal: Principal | None = None, app_id: UUID | None = None) -> None:
    """Note a direct run that was refused to its caller; without any credential it is nobody's."""
    if isinstance(error, Unauthenticated) and credential_of(scope) is None:
        return
    grounds = None if principal is None else principal.grounds
    access.refused(
        Refusal(
            reason="bad_credential" if isinstance(error, Unauthenticated) else "not_visible" if isinstance(error, NotFound) else "forbidden",
            code=error.code,
            actor="public" if principal is None else principal.actor,
            user_id=None if grounds is None else grounds.user_id,
            address=address_of(scope),
            method=scope["method"],
            route=_DIRECT_RUN,
            capability=None if principal is None else Capability.EXECUTE,
            app_id=app_id,
            request_id=request_id_of(scope),
        )
    )
