from datetime import datetime as _datetime
from typing import Any

class _Schedule:
    def at(self, time: str | float | _datetime, script: str, payload: Any = None) -> str: ...
    def cancel(self, execution_id: str) -> bool: ...

schedule: _Schedule
