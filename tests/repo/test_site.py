"""The documentation as a site: every page has its place, every link leads somewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.served import ROOT


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    start = (tmp_path / "index.html").read_text()
    assert "Two commands" in start
    assert 'href="scripts/"' in start
    assert (tmp_path / "search" / "search_index.json").is_file()
