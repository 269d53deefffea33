"""The command's entry: the web layer stands above the runtime, so it is the one that brings both together."""

from __future__ import annotations

import sys

from runtime.cli import run
from runtime.platform import Platform
from runtime.server import Web
from web.app import build_app
from web.dataplane import DataPlane
from web.front import Front
from web.protocol import ProblemProtocol


def build(platform: Platform) -> Front:
    """The web application of a platform."""
    return build_app(platform, DataPlane(platform))


def main() -> None:
    """The command `picloud`."""
    sys.exit(run(Web(build, ProblemProtocol)))


if __name__ == "__main__":
    main()
