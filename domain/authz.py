"""Who may do what: one table of capabilities, and the decision as a pure function of it.

A request passes when the role grants it, and the key's scopes hold it, and the key's binding allows the app. What a principal may not see is 404, what it may
see but not do is 403: whoever has a role in an app sees it, unless through a key that is bound elsewhere; what a key's scopes leave out is seen but refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

import msgspec

from domain.errors import Forbidden, Invalid, NotFound, Unauthenticated

InstanceRole = Literal["owner", "admin", "member"]
AppRole = Literal["app_admin", "editor", "viewer"]
Scope = Literal["script:read", "script:write", "route:write", "log:read", "domain:manage", "app:admin", "instance:admin"]
PrincipalKind = Literal["user", "key", "public", "system"]

_RANK: Final[Mapping[InstanceRole | AppRole, int]] = {"owner": 3, "admin": 2, "member": 1, "app_admin": 3, "editor": 2, "viewer": 1}


class Grounds(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of the streams that a principal's rights were read from: the user's, those of his memberships by app, and the key's (0: it is no key)."""

    user_id: UUID
    user: int
    members: Mapping[UUID, int] = {}
    key: int = 0


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. A key has its owner's roles; `scopes` and `bound_app` narrow them. `scopes` is None for whoever is not a key: nothing is narrowed then.

    `id` is the user's or the key's, None for `public` and `system`. `name` is for people: a user name, a key's name. `grounds` is what the rights of a user
    or key rest on (see `domain.principals`).
    """

    kind: PrincipalKind
    id: UUID | None = None
    name: str = ""
    instance_role: InstanceRole | None = None
    app_roles: Mapping[UUID, AppRole] = {}
    scopes: frozenset[Scope] | None = None
    bound_app: UUID | None = None
    grounds: Grounds | None = None

    @property
    def actor(self) -> str:
        """As events name it: `user:<id>`, `key:<id>`, `public` or `system`."""
        return self.kind if self.id is None else f"{self.kind}:{self.id}"


PUBLIC: Final = Principal(kind="public", name="public")
"""An anonymous caller."""
SYSTEM: Final = Principal(kind="system", name="system")
"""PiCloud itself: sweepers, the scheduler, bootstrap. Everything is allowed to it."""


class Capability(StrEnum):
    """Everything that is asked for by name, in handlers and in the host calls of scripts."""

    APPS_READ = "apps.read"
    APPS_MANAGE = "apps.manage"
    APPS_CREATE = "apps.create"
    MEMBERS_MANAGE = "members.manage"
    DOMAINS_READ = "domains.read"
    DOMAINS_MANAGE = "domains.manage"
    SCRIPTS_READ = "scripts.read"
    SCRIPTS_WRITE = "scripts.write"
    SCRIPTS_DELETE = "scripts.delete"
    EXECUTE = "execute"
    ROUTES_WRITE = "routes.write"
    TRIGGERS_MANAGE = "triggers.manage"
    DEAD_LETTERS_MANAGE = "dead_letters.manage"
    TOPICS_MANAGE = "topics.manage"
    KV_READ = "kv.read"
    KV_WRITE = "kv.write"
    DOCS_READ = "docs.read"
    DOCS_WRITE = "docs.write"
    FILES_READ = "files.read"
    FILES_WRITE = "files.write"
    PUBSUB_PUBLISH = "pubsub.publish"
    HTTP_CALL = "http.call"
    SECRETS_READ = "secrets.read"
    SECRETS_MANAGE = "secrets.manage"
    EVENTS_READ = "events.read"
    EXECUTIONS_READ = "executions.read"
    USERS_MANAGE = "users.manage"
    KEYS_MANAGE = "keys.manage"
    INSTANCE_READ_LOG = "instance.read_log"
    INSTANCE_SETTINGS = "instance.settings"


class Rule(msgspec.Struct, frozen=True):
    """What a capability takes: at least this role (an app's role, or the instance's), and of a key this scope."""

    role: InstanceRole | AppRole
    scope: Scope

    @property
    def of_instance(self) -> bool:
        """Whether it concerns the instance and not one app."""
        return self.role in {"owner", "admin", "member"}


RULES: Final[Mapping[Capability, Rule]] = {
    Capability.APPS_READ: Rule("viewer", "script:read"),
    Capability.SCRIPTS_READ: Rule("viewer", "script:read"),
    Capability.EXECUTE: Rule("viewer", "script:read"),
    Capability.KV_READ: Rule("viewer", "script:read"),
    Capability.DOCS_READ: Rule("viewer", "script:read"),
    Capability.FILES_READ: Rule("viewer", "script:read"),
    Capability.SECRETS_READ: Rule("viewer", "script:read"),  # within scripts; nobody else is ever shown one
    Capability.DOMAINS_READ: Rule("viewer", "domain:manage"),
    Capability.EVENTS_READ: Rule("viewer", "log:read"),
    Capability.EXECUTIONS_READ: Rule("viewer", "log:read"),
    Capability.SCRIPTS_WRITE: Rule("editor", "script:write"),
    Capability.KV_WRITE: Rule("editor", "script:write"),
    Capability.DOCS_WRITE: Rule("editor", "script:write"),
    Capability.FILES_WRITE: Rule("editor", "script:write"),
    Capability.PUBSUB_PUBLISH: Rule("editor", "script:write"),
    Capability.HTTP_CALL: Rule("editor", "script:write"),
    Capability.ROUTES_WRITE: Rule("editor", "route:write"),
    Capability.SCRIPTS_DELETE: Rule("app_admin", "script:write"),
    Capability.TRIGGERS_MANAGE: Rule("app_admin", "app:admin"),
    Capability.DEAD_LETTERS_MANAGE: Rule("app_admin", "app:admin"),
    Capability.TOPICS_MANAGE: Rule("app_admin", "app:admin"),
    Capability.SECRETS_MANAGE: Rule("app_admin", "app:admin"),
    Capability.MEMBERS_MANAGE: Rule("app_admin", "app:admin"),
    Capability.APPS_MANAGE: Rule("app_admin", "app:admin"),
    Capability.DOMAINS_MANAGE: Rule("app_admin", "domain:manage"),
    Capability.KEYS_MANAGE: Rule("member", "instance:admin"),  # one's own keys; a key that could make keys could widen itself
    Capability.APPS_CREATE: Rule("admin", "instance:admin"),
    Capability.USERS_MANAGE: Rule("admin", "instance:admin"),
    Capability.INSTANCE_READ_LOG: Rule("owner", "log:read"),
    Capability.INSTANCE_SETTINGS: Rule("owner", "instance:admin"),
}


def highest(roles: Iterable[InstanceRole | AppRole]) -> InstanceRole | AppRole | None:
    """The role of some of one sort (of the instance, or of an app) that has what all of them have; None of none."""
    return max(roles, key=_RANK.__getitem__, default=None)


_OF_RUNS: Final = (
    Capability.EXECUTE,
    Capability.KV_READ,
    Capability.KV_WRITE,
    Capability.DOCS_READ,
    Capability.DOCS_WRITE,
    Capability.FILES_READ,
    Capability.FILES_WRITE,
    Capability.SECRETS_READ,
    Capability.SCRIPTS_WRITE,
    Capability.PUBSUB_PUBLISH,
    Capability.HTTP_CALL,
    Capability.DEAD_LETTERS_MANAGE,
)
"""What scripts ask for when they run as somebody."""


class Decision(msgspec.Struct, frozen=True):
    """`visible`: whether the principal may know of the app (or of the admin API). `reason` says what is missing, empty when it is allowed."""

    allowed: bool
    visible: bool
    reason: str = ""


_ALLOWED: Final = Decision(allowed=True, visible=True)
_HIDDEN: Final = Decision(allowed=False, visible=False, reason="not visible")


def app_role(principal: Principal, app_id: UUID) -> AppRole | None:
    """The role in an app, given or implied: owners and admins of the instance are app_admin everywhere."""
    if principal.instance_role in {"owner", "admin"}:
        return "app_admin"
    return principal.app_roles.get(app_id)


def sees(principal: Principal, app_id: UUID) -> bool:
    """Whether a principal may know of an app: whoever has a role there, unless through a key that is bound to another."""
    return principal.bound_app in {None, app_id} and app_role(principal, app_id) is not None


def refuse_escalation(principal: Principal, role: AppRole, app_id: UUID) -> None:
    """Return when a principal may give this role in an app: nobody gives more than they have. Raises Invalid."""
    own = app_role(principal, app_id)
    if own is None or _RANK[own] < _RANK[role]:
        raise Invalid(f"role: you are {own or 'none'} here, and nobody gives a role above their own", code="cannot_escalate", field="role")


def refuse_stronger_run(principal: Principal, other: Principal, app_id: UUID) -> None:
    """Return when a principal may say what runs as another in an app: nothing is done through that which he may not do himself. Raises Invalid."""
    for capability in _OF_RUNS:
        if decide(other, capability, app_id).allowed and not (own := decide(principal, capability, app_id)).allowed:
            message = f"script_id: this runs as somebody who has {capability}, and {own.reason}"
            raise Invalid(message, code="cannot_escalate", field="script_id", capability=str(capability))


def decide(principal: Principal, capability: Capability, app_id: UUID | None) -> Decision:
    """Decide a capability in an app, or, with None, of the instance. Raises ValueError when the capability is of the other sort: the caller's mistake."""
    rule = RULES[capability]
    if rule.of_instance is not (app_id is None):
        msg = f"{capability} is decided {'without' if rule.of_instance else 'in'} an app"
        raise ValueError(msg)
    if principal.kind == "system":
        return _ALLOWED
    if principal.kind == "public" or (app_id is not None and not sees(principal, app_id)):
        return _HIDDEN
    reason = _missing(principal, rule, app_id)
    return Decision(allowed=False, visible=True, reason=reason) if reason else _ALLOWED


def authorize(principal: Principal, capability: Capability, app_id: UUID | None) -> None:
    """Return when it is allowed. Raises Unauthenticated (anonymous), NotFound (not visible, no hint that it exists) or Forbidden (with what is missing)."""
    decision = decide(principal, capability, app_id)
    if decision.allowed:
        return
    if principal.kind == "public":
        raise Unauthenticated
    if not decision.visible:
        raise NotFound
    raise Forbidden(f"{capability}: {decision.reason}", capability=str(capability))


def _missing(principal: Principal, rule: Rule, app_id: UUID | None) -> str:
    """The first thing that stands against a principal that sees what it asks for; empty when nothing does."""
    role = principal.instance_role if app_id is None else app_role(principal, app_id)
    if role is None or _RANK[role] < _RANK[rule.role]:
        return f"the role {rule.role} is required, you are {role or 'none'}"
    if app_id is None and principal.bound_app is not None:
        return "the key is bound to one app"
    if principal.scopes is not None and rule.scope not in principal.scopes:
        return f"the key lacks the scope {rule.scope}"
    return ""
