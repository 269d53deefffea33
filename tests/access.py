"""Who may do what, written from the contract's sentences and not from the code: what tests hold authorisation against.

Each set below is a sentence; `verdict` is the one about how they come together: a request passes when the role grants it AND the key's scopes hold it AND the
key's binding allows the app; what one may not see is missing, what one may see but not do is forbidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

VIEWER: Final = frozenset(
    {"apps.read", "scripts.read", "execute", "kv.read", "docs.read", "files.read", "secrets.read", "events.read", "executions.read", "domains.read"}
)
EDITOR: Final = VIEWER | {"scripts.write", "kv.write", "docs.write", "files.write", "pubsub.publish", "http.call", "routes.write"}
"""Editors write scripts but do not delete them."""
APP_ADMIN: Final = EDITOR | {
    "scripts.delete",
    "triggers.manage",
    "dead_letters.manage",
    "topics.manage",
    "secrets.manage",
    "members.manage",
    "apps.manage",
    "domains.manage",
}
MEMBER: Final = frozenset({"keys.manage"})
ADMIN: Final = MEMBER | {"apps.create", "users.manage"}
OWNER: Final = ADMIN | {"instance.read_log", "instance.settings"}
"""Only owners change the instance's settings and read its log."""

IN_AN_APP: Final[Mapping[str | None, frozenset[str]]] = {None: frozenset(), "viewer": VIEWER, "editor": EDITOR, "app_admin": APP_ADMIN}
IN_THE_INSTANCE: Final[Mapping[str | None, frozenset[str]]] = {None: frozenset(), "member": MEMBER, "admin": ADMIN, "owner": OWNER}

BY_SCOPE: Final[Mapping[str, frozenset[str]]] = {
    "script:read": VIEWER - {"events.read", "executions.read", "domains.read"},
    "script:write": frozenset({"scripts.write", "scripts.delete", "kv.write", "docs.write", "files.write", "pubsub.publish", "http.call"}),
    "route:write": frozenset({"routes.write"}),
    "log:read": frozenset({"events.read", "executions.read", "instance.read_log"}),
    "domain:manage": frozenset({"domains.read", "domains.manage"}),
    "app:admin": frozenset({"triggers.manage", "dead_letters.manage", "topics.manage", "secrets.manage", "members.manage", "apps.manage"}),
    "instance:admin": frozenset({"keys.manage", "apps.create", "users.manage", "instance.settings"}),
}
"""Seven scopes, and each capability needs one of them."""

Verdict = Literal["allowed", "forbidden", "missing"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody with a credential. `app_role` is what a membership of the app says; `scopes` is None without a key, `bound` without a binding."""

    instance_role: str | None = "member"
    app_role: str | None = None
    scopes: frozenset[str] | None = None
    bound: Literal["here", "elsewhere"] | None = None


def verdict(caller: Caller, *capabilities: str) -> Verdict:
    """What becomes of a call that needs all of these in an app, or in the instance."""
    if set(capabilities) <= OWNER:
        by_role = IN_THE_INSTANCE[caller.instance_role]
        by_binding = caller.bound is None
    else:
        # Owners and admins are implicit app_admin everywhere.
        role = "app_admin" if caller.instance_role in {"owner", "admin"} else caller.app_role
        if role is None or caller.bound == "elsewhere":
            return "missing"
        by_role = IN_AN_APP[role]
        by_binding = True
    by_scope = by_role if caller.scopes is None else frozenset().union(*(BY_SCOPE[scope] for scope in caller.scopes))
    return "allowed" if by_binding and set(capabilities) <= by_role & by_scope else "forbidden"
