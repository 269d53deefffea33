"""Whatever is asked of the API, it answers as its OpenAPI document says: no 5xx, no status, type or shape that is not documented.

`FUZZ_SECONDS=900 make test ARGS=tests/http/test_schemathesis.py` goes on for longer, with other requests each time, and with chains of them.
"""

from __future__ import annotations

import httpx
import pytest

from tests.http.fuzzed import OWNER, SCHEMA, logged_in, run, seed
from tests.served import serve, workplace

MOST_NEVER_DONE = 0.2
"""The share of operations that may have failed in every call: what follows from the rest by nobody's guess, as the token of a poll."""


def test_the_api_answers_as_its_document_says(capsys: pytest.CaptureFixture[str]) -> None:
    with workplace() as cwd, serve(cwd, PICLOUD_ADMIN_PASSWORD=OWNER["password"]) as served, logged_in(served.url) as client:
        document = httpx.get(f"{served.url}{SCHEMA}").json()
        report = run(served.url, client, document, seed(client))
        with capsys.disabled():
            print(f"\n  schemathesis: {report.summary()}")  # noqa: T201  # worth a look in every run
        assert not report.verdict, f"{len(report.broken)} promises broken, {len(report.errors)} errors:\n\n{report.verdict}"
        never = report.never_done()
        assert not report.complete or len(never) < MOST_NEVER_DONE * len(report.answers), f"seed what these need (tests/http/fuzzed.py): {never}"
        assert "Traceback" not in served.errors
