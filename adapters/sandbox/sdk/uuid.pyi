from builtins import bytes as _bytes
from builtins import int as _int

class _Uuid:
    hex: str
    int: _int
    bytes: _bytes
    version: _int
    urn: str

class _UuidModule:
    def uuid4(self) -> _Uuid: ...
    def uuid7(self) -> _Uuid: ...
    def UUID(self, hex: str | None = None, bytes: _bytes | None = None, int: _int | None = None) -> _Uuid: ...  # noqa: N802

uuid: _UuidModule
