"""The first minutes of somebody who has just cloned this: the real command, on an empty directory."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.served import Served, run, serve, workplace

PASSWORD = "correct horse battery"
RESTART_WITHIN_S = 10.0
"""Two seconds on a machine that does nothing else; test machines do."""


@pytest.fixture
def empty() -> Iterator[Path]:
    """Where somebody stands who has just arrived."""
    with workplace() as directory:
        yield directory


@pytest.mark.alone
def test_a_newcomer_starts_uses_stops_and_starts_it_again(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(empty, PICLOUD_ADMIN_PASSWORD=PASSWORD) as first:
        assert greet(first) == {"message": "Hello, world!", "visits": 1, "hint": "Each answer is counted per name in kv; try /hello?name=you"}
        assert (empty / ".picloud").is_dir()
        assert PASSWORD not in first.said
        assert PASSWORD not in first.errors
        log_in(first, PASSWORD)
        unknown = run("verify", "nonsense", cwd=empty)
        assert unknown.returncode == 2
        assert "'nonsense' is no projection; there are kv, " in unknown.stderr
        stops_cleanly(first)
    with serve(empty) as second:
        assert greet(second)["visits"] == 2
        log_in(second, PASSWORD)
        assert second.ready_s < RESTART_WITHIN_S
        assert "password" not in second.said.partition("Try:")[0]
        with capsys.disabled():
            print(f"\n  first start {first.ready_s:.2f} s, restart {second.ready_s:.2f} s")  # noqa: T201  # worth a look in every run
        stops_cleanly(second)


def test_the_first_start_says_what_there_is_and_prints_a_password_that_works(empty: Path) -> None:
    with serve(empty) as served:
        assert served.said.count(f"http://localhost:{served.address.partition(':')[2]}/hello") == 1
        password = served.said.partition("with the password ")[2].split()[0]
        log_in(served, password)
        assert password not in served.errors
        commands = [line for line in served.said.splitlines() if line.startswith("  curl ")]
        assert len(commands) == 3
        assert httpx.get(f"{served.url}/healthz").text == "ok"
        ready = httpx.get(f"{served.url}/readyz").json()
        assert ready["status"] == "ready"
        assert ready["sandbox"]["hardening"]


def test_an_unknown_setting_is_refused_with_its_name_and_a_guess(empty: Path) -> None:
    ended = run("serve", cwd=empty, PICLOUD_BIMD="127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr == "picloud: PICLOUD_BIMD is not a setting of PiCloud: did you mean PICLOUD_BIND?\n"
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PICLOUD_BIND", "8000", "expected host:port, not '8000'"),
        ("PICLOUD_WORKERS", "many", "expected a whole number from 1 to 256, not 'many'"),
        ("PICLOUD_ROLES", "web,cook", "expected a comma-separated list of web, reactor, scheduler, not 'web,cook'"),
        ("PICLOUD_ADMIN_PASSWORD", "short", "expected 8 to 1024 characters"),
        ("DATABASE_URL", "mysql://here", "expected a postgresql:// URL"),
    ],
)
def test_a_malformed_setting_is_refused_with_what_was_expected(empty: Path, name: str, value: str, expected: str) -> None:
    ended = run("serve", cwd=empty, **{name: value})
    assert ended.returncode == 2
    assert ended.stderr == f"picloud: {name}: {expected}\n"
    assert list(empty.iterdir()) == []


def test_a_port_in_use_is_named(empty: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("serve", "--bind", address, cwd=empty)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1] == f"picloud: PICLOUD_BIND: cannot listen on {address}: Address already in use"


def test_a_database_that_is_not_there_is_said_without_a_traceback(empty: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ended = run("serve", cwd=empty, DATABASE_URL=f"postgresql://somebody:secret-word@127.0.0.1:{port}/nothing")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "secret-word" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("command", ["verify", "rebuild"])
def test_upkeep_of_nothing_is_refused_and_makes_nothing(empty: Path, command: str) -> None:
    ended = run(command, cwd=empty)
    assert ended.returncode == 2
    assert ended.stderr == "picloud: PICLOUD_DATA_DIR: there is no instance in .picloud\n"
    assert list(empty.iterdir()) == []


def test_help_shows_every_command_and_setting(empty: Path) -> None:
    assert all(name in run("--help", cwd=empty).stdout for name in ("serve", "rebuild", "verify"))
    shown = run("serve", "--help", cwd=empty).stdout
    assert all(name in shown for name in ("PICLOUD_BIND", "PICLOUD_DATA_DIR", "DATABASE_URL", "PICLOUD_PUBLIC_BASE_URL", "--workers"))


def greet(served: Served) -> dict[str, object]:
    answer = httpx.get(f"{served.url}/hello")
    assert answer.status_code == 200, (answer.text, served.errors)
    greeting: dict[str, object] = answer.json()
    return greeting


def log_in(served: Served, password: str) -> None:
    answer = httpx.post(f"{served.url}/api/v1/admin/auth/login", json={"username": "admin", "password": password})
    assert answer.status_code == 200, answer.text


def stops_cleanly(served: Served) -> None:
    """By Ctrl-C: within 5 s, with status 0, and nothing of it is left."""
    family = served.family()
    names = {process.name() for process in family}
    assert any("postgres" in name for name in names), names
    assert served.stop(signal.SIGINT, within_s=5) == 0
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert "Traceback" not in served.errors
