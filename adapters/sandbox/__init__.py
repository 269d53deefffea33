"""The sandbox on pydantic-monty."""

from __future__ import annotations

from adapters.sandbox.sandbox import MontySandbox, open_sandbox
from adapters.sandbox.settings import SandboxSettings
from adapters.sandbox.stub import sdk_stub

__all__ = ["MontySandbox", "SandboxSettings", "open_sandbox", "sdk_stub"]
