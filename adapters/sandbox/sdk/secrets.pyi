from typing import Any

class _Secrets:
    def get(self, name: str) -> Any: ...
    def token(self, nbytes: int = 32) -> str: ...

secrets: _Secrets
