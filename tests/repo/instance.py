"""An app of a running instance, as its admin and its callers use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import httpx

API: Final = "/api/v1/admin"
_WAIT_S: Final = 15.0
_PAUSE_S: Final = 0.02

T = TypeVar("T")


class AppClient:
    """`caller` is anybody on the app's host."""

    def __init__(self, admin: httpx.Client, caller: httpx.Client, slug: str) -> None:
        self.admin = admin
        self.caller = caller
        self.slug = slug

    def check(self, source: str, kind: str = "endpoint") -> list[dict[str, Any]]:
        """What the check at upload finds."""
        body = {"app_id": self.slug, "kind": kind, "source": source}
        diagnostics: list[dict[str, Any]] = _accepted(self.admin.post(f"{API}/scripts:check", json=body))["diagnostics"]
        return diagnostics

    def upload(self, name: str, source: str, kind: str = "endpoint") -> str:
        """A new script's id."""
        body = {"app_id": self.slug, "name": name, "source": source, "kind": kind}
        script_id: str = _accepted(self.admin.post(f"{API}/scripts", json=body))["id"]
        return script_id

    def route(self, script_id: str, path: str, **more: str) -> None:
        """Give a script a route."""
        _accepted(self.admin.post(f"{API}/scripts/{script_id}/routes", json={"path": path, **more}))

    def trigger(self, kind: str, script_id: str, **more: Any) -> None:
        """Have a script run by events."""
        _accepted(self.admin.post(f"{API}/apps/{self.slug}/triggers/{kind}", json={"script_id": script_id, **more}))

    def run(self, script_id: str, **request: Any) -> httpx.Response:
        """Run a script directly, as its admin."""
        return self.admin.post(f"/api/v1/execute/{script_id}", **request)

    def put(self, collection: str, key: str, value: Any) -> None:
        """Set an entry."""
        _accepted(self.admin.put(f"{API}/apps/{self.slug}/kv/{collection}/{key}", json={"value": value}))

    def delete(self, collection: str, key: str) -> None:
        """Delete an entry."""
        self.admin.delete(f"{API}/apps/{self.slug}/kv/{collection}/{key}").raise_for_status()

    def entries(self, collection: str) -> dict[str, Any]:
        """A collection as a dict."""
        return {item["key"]: item["value"] for item in self.read(f"kv/{collection}")["items"]}

    def read(self, path: str) -> Any:
        """Something of the app over the admin API."""
        return _accepted(self.admin.get(f"{API}/apps/{self.slug}/{path}"))


def until(ask: Callable[[], T], done: Callable[[T], bool]) -> T:
    """Ask until the answer is what is waited for."""
    deadline = time.monotonic() + _WAIT_S
    while not done(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(_PAUSE_S)
    return answer


def _accepted(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()
