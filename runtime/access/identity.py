"""Whom a credential belongs to."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from adapters.postgres.vault import User
from domain.authz import Principal


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a token belongs to: `user` in a session, or through a key of his. `extended`: this use has moved the session's `expires_at` on.

    A session is valid in `session_epoch` of its user alone. A key has neither session nor epoch, and may never expire.
    """

    principal: Principal
    user: User
    session_id: UUID | None
    session_epoch: int | None = None
    expires_at: datetime | None
    extended: bool
