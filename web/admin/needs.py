"""What each route of the control plane needs of its caller, declared once at the route: guards, handlers, the OpenAPI document and tests read it there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar.handlers import BaseRouteHandler

from domain.authz import RULES, Capability

_OPT: Final = "needs"

NO_CREDENTIAL: Final[dict[str, Any]] = {_OPT: None}
"""`opt=` of a route for anybody."""
CREDENTIAL: Final[dict[str, Any]] = {_OPT: ()}
"""`opt=` of a route for whoever is let in, about nothing but the caller."""


def needs(*capabilities: Capability) -> dict[str, Any]:
    """`opt=` of a route: all of these are needed; either all in the app that the route is about, or all in the instance."""
    if len({RULES[capability].of_instance for capability in capabilities}) != 1:
        msg = "capabilities of an app and of the instance do not mix"
        raise ValueError(msg)
    return {_OPT: capabilities}


def needs_of(handler: BaseRouteHandler) -> Sequence[Capability] | None:
    """What a route declares; None when it is for anybody. Raises KeyError when it declares nothing."""
    declared: Sequence[Capability] | None = handler.opt[_OPT]
    return declared


def declares(handler: BaseRouteHandler) -> bool:
    """Whether a handler is a route of the control plane that is not for anybody."""
    return handler.opt.get(_OPT) is not None


def of_instance(capabilities: Sequence[Capability]) -> bool:
    """Whether these are decided without an app."""
    return any(RULES[capability].of_instance for capability in capabilities)
