from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from adapters.postgres.migrate import load_migrations
from runtime.settings import VARIABLES, settings_help

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "projections", "adapters", "runtime", "migrations", "web")
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-bench.txt")
SETTINGS_MARK = "<!-- settings -->"

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_imports_point_one_way() -> None:
    checked = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_migrations_are_named_and_numbered_without_a_gap() -> None:
    migrations = load_migrations()
    assert [migration.number for migration in migrations] == list(range(1, len(migrations) + 1))
    assert {migration.name for migration in migrations} == {path.name for path in (ROOT / "migrations").iterdir() if path.suffix == ".sql"}


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_registry_and_carry_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", text, re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 20
    assert all(re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", entry) and "--hash=sha256:" in entry for entry in entries)


def test_locks_agree_on_versions() -> None:
    pins = [dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", (ROOT / name).read_text(), re.MULTILINE)) for name in LOCKS]
    for smaller, larger in itertools.pairwise(pins):
        assert smaller.items() <= larger.items()


def test_every_dependency_is_locked() -> None:
    locked = (ROOT / "requirements.txt").read_text()
    for requirement in PROJECT["project"]["dependencies"]:
        name = re.split(r"[^A-Za-z0-9-]", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}(\[|==)", locked, re.MULTILINE), name


def test_no_lock_of_a_single_tool_is_committed() -> None:
    assert tracked("uv.lock", "poetry.lock", "Pipfile.lock") == []


def test_every_package_is_shipped_and_checked() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert PROJECT["tool"]["importlinter"]["root_packages"] == list(PACKAGES)
    assert set(PACKAGES) <= set(PROJECT["tool"]["mypy"]["packages"])


def test_every_ruff_exception_is_explained() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    codes = [line for line in text.splitlines() if re.match(r'\s+"[A-Z]+[0-9]*",', line)]
    assert len(codes) > 10
    assert [line for line in codes if " # " not in line] == []


def test_code_names_only_settings_that_exist() -> None:
    known = {item.name for item in VARIABLES}
    for path in tracked(*(f"{package}/*.py" for package in PACKAGES), "*.md", "docs/*.md"):
        named = set(re.findall(r"\bPICLOUD_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
        assert named <= known, path


def test_documents_show_the_settings_as_they_are() -> None:
    for path in tracked("*.md", "docs/*.md"):
        text = path.read_text()
        assert SETTINGS_MARK not in text or settings_help(markdown=True) in text, path


def test_continuous_integration_runs_what_people_run() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert "set -euo pipefail" in script
    assert "make check" in script
    assert "make test" in script
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for tool in ("ruff check", "ruff format", "mypy", "lint-imports"):
        assert tool in hooks
        assert f"$(BIN)/{tool}" in makefile
