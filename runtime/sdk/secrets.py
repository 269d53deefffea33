"""secrets for scripts: values that administrators have set, and chance from the operating system."""

from __future__ import annotations

import secrets as chance
from typing import Final

from domain.authz import Capability
from domain.errors import Invalid
from domain.secrets import KeyProblem, check_name
from runtime.services import Access, Service, as_script_error

MAX_TOKEN_BYTES: Final = 1024


async def secrets_get(access: Access, name: object) -> str | None:
    """A secret's value, None when there is no such secret. What a run has read is kept out of whatever is recorded of it."""
    access.require("secrets", Capability.SECRETS_READ)
    try:
        checked = check_name(name)
    except Invalid as error:
        raise as_script_error(error, "secrets") from error
    reader = access.resources.secrets
    if reader is None:
        raise RuntimeError("secrets: there are none here")
    try:
        value = await reader.read(access.app_id, checked)
    except KeyProblem as error:
        raise RuntimeError(f"secrets: {error}") from error
    if value is not None:
        access.revealed.add(value)
    return value


async def secrets_token(access: Access, nbytes: object) -> str:
    """See `secrets_token_now`."""
    return secrets_token_now(access, nbytes)


def secrets_token_now(access: Access, nbytes: object) -> str:
    """Random bytes as URL-safe base64 without padding."""
    del access
    if isinstance(nbytes, bool) or not isinstance(nbytes, int):
        raise TypeError(f"secrets: nbytes must be int, not {type(nbytes).__name__}")
    if not 1 <= nbytes <= MAX_TOKEN_BYTES:
        raise ValueError(f"secrets: nbytes must be within 1 and {MAX_TOKEN_BYTES}")
    return chance.token_urlsafe(nbytes)


SECRETS: Final = Service(
    name="secrets",
    calls={"secrets_get": secrets_get, "secrets_token": secrets_token},
    now={"secrets_token": secrets_token_now},
    outside=frozenset({"secrets_get", "secrets_token"}),
    confidential=frozenset({"secrets_get"}),
)
