"""The sandbox on pydantic-monty."""

from __future__ import annotations

from adapters.sandbox.sandbox import open_sandbox
from adapters.sandbox.settings import SandboxSettings

__all__ = ["SandboxSettings", "open_sandbox"]
