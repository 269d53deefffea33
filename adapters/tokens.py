"""JSON Web Tokens (RFC 7519), signed by HMAC with SHA-256. The library is loaded by the first of them, for it brings one of ciphers along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.errors import Unauthenticated

_ALGORITHM: Final = "HS256"
_MAX_KID_CHARS: Final = 64
# The clock is the caller's affair: PyJWT would ask the system's.
_OPTIONS: Final[Any] = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}


def sign(claims: Mapping[str, Any], kid: str, key: bytes) -> str:
    """A token."""
    import jwt

    return jwt.encode(dict(claims), key, algorithm=_ALGORITHM, headers={"kid": kid})


def key_id(token: str) -> str:
    """The id of the key that a token says it was signed by. Nothing is verified. Raises Unauthenticated for what is no token."""
    import jwt

    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("the token cannot be read", code="bad_token") from None
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_CHARS or not kid.isascii() or "\x00" in kid:
        raise Unauthenticated("the token names no key", code="bad_token")
    return kid


def verify(token: str, key: bytes) -> dict[str, Any]:
    """The claims of a token that this key has signed. Raises Unauthenticated. Claims are not judged, times included."""
    import jwt

    try:
        return jwt.decode(token, key, algorithms=[_ALGORITHM], options=_OPTIONS)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("the token is not valid", code="bad_token") from None
