"""Which paths of the control plane are streams, so that their hours do not count as the time that an answer takes."""

from __future__ import annotations

import re
from typing import Final

_LIVE: Final = re.compile(r"/api/v1/admin/apps/[^/]+/(?:events|executions)/live")


def is_live(path: str) -> bool:
    """Whether a path is a stream's."""
    return _LIVE.fullmatch(path) is not None
