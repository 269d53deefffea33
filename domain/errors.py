"""Every error that PiCloud raises on purpose. `web/problems.py` alone maps them to status codes.

A class's docstring is its default detail. `code` is the stable machine-readable name of the problem; `extra` holds members of the problem document beside
the standard ones (`conflicting_route`, `diagnostics`, ...), all of them JSON values.
"""

from __future__ import annotations

from typing import Any, ClassVar


class PiCloudError(Exception):
    """Something went wrong inside PiCloud."""

    CODE: ClassVar[str] = "internal"

    def __init__(self, detail: str | None = None, *, code: str | None = None, field: str | None = None, **extra: Any) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.code = code or self.CODE
        self.field = field
        self.extra = extra
        super().__init__(self.detail)


class Malformed(PiCloudError):
    """The request cannot be read."""

    CODE = "malformed"


class Invalid(PiCloudError):
    """A value is not acceptable. `field` names it (`$.limits.memory_mib`, `key`)."""

    CODE = "invalid"


class Unauthenticated(PiCloudError):
    """Valid credentials are required."""

    CODE = "unauthenticated"


class Forbidden(PiCloudError):
    """You may see this but not do that."""

    CODE = "forbidden"


class NotFound(PiCloudError):
    """There is no such thing here."""

    CODE = "not_found"


class Moved(PiCloudError):
    """This is found under another name now."""

    CODE = "moved"

    def __init__(self, detail: str | None = None, *, location: str, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.location = location


class Conflict(PiCloudError):
    """The state is not what this change expects."""

    CODE = "conflict"


class VersionConflict(Conflict):
    """The stream is not at the version that this change expects."""

    CODE = "version_conflict"


class AlreadyExists(VersionConflict):
    """The stream that this change would begin exists already."""

    CODE = "already_exists"


class ReadConflict(VersionConflict):
    """Something that this unit has read has changed since."""

    CODE = "read_conflict"


class FenceLost(Conflict):
    """This execution was taken over by another worker; nothing of it was committed."""

    CODE = "fence_lost"


class LogClosed(Conflict):
    """The app was deleted; its log takes no more events."""

    CODE = "log_closed"


class TooLarge(PiCloudError):
    """The body is larger than this route accepts."""

    CODE = "too_large"


class Throttled(PiCloudError):
    """Too many attempts."""

    CODE = "throttled"

    def __init__(self, detail: str | None = None, *, retry_after_s: float, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after_s = retry_after_s


class RateLimited(Throttled):
    """More requests than are allowed in this time."""

    CODE = "rate_limited"


class QuotaExceeded(Throttled):
    """What this app may use up in a day is used up."""

    CODE = "quota_exceeded"


class Overloaded(Throttled):
    """All execution slots are taken."""

    CODE = "overloaded"


class Contention(Throttled):
    """The execution lost to concurrent writers until its time was up."""

    CODE = "contention"


class Unavailable(Throttled):
    """A part that this needs (the database, the sandbox) is not available."""

    CODE = "unavailable"


class Damaged(PiCloudError):
    """Stored bytes are lost, or are no longer those that were saved."""

    CODE = "damaged"


class OutcomeUnknown(PiCloudError):
    """The connection was lost during COMMIT and the outcome could not be looked up in time."""

    CODE = "outcome_unknown"


class ScriptRaised(PiCloudError):
    """The script raised an error."""

    CODE = "script_raised"


class ScriptTimedOut(PiCloudError):
    """The script exceeded its time limit."""

    CODE = "script_timed_out"


class BudgetExceeded(PiCloudError):
    """The script exceeded its budget (memory, host calls, output or effects)."""

    CODE = "budget_exceeded"


class StorageFull(BudgetExceeded):
    """This would store more than the app may."""

    CODE = "storage_full"


class ScriptInvalid(Invalid):
    """The script does not compile or does not type-check."""

    CODE = "script_invalid"
