"""What the first start makes (an owner, an app with a script that answers) and what every start says."""

from __future__ import annotations

from runtime.access.accounts import FirstOwner
from runtime.admin.seeding import seed
from runtime.platform import Platform
from runtime.settings import Settings
from runtime.version import read_version


class Welcome:
    """`prepare` fills an empty instance; `show` prints what is ready and what to try next, on standard output, once."""

    def __init__(self, settings: Settings, *, embedded: bool, quiet: bool = False) -> None:
        self._settings = settings
        self._embedded = embedded
        self._quiet = quiet
        self._first: FirstOwner | None = None

    async def prepare(self, platform: Platform) -> None:
        """The first owner and the first app, if there is nobody yet."""
        self._first = await platform.accounts.bootstrap(self._settings.admin, self._announce)
        await seed(platform)

    async def show(self, platform: Platform) -> None:
        """What is ready."""
        if self._quiet:
            return
        print("\n".join(self._lines(platform)), flush=True)

    def _announce(self, owner: FirstOwner) -> None:
        """A generated password is shown at once, before the user exists: whoever dies in between has lost nothing."""
        if owner.password is not None:
            print(f"\n  The first owner is {owner.username!r} with the password {owner.password}\n  It is shown this once.\n", flush=True)

    def _login(self) -> str:
        """What to log in with: the truth at a first start, blanks to fill in at a later one."""
        if self._first is None:
            return _login_body("YOUR-NAME", "YOUR-PASSWORD")
        return _login_body(self._first.username, self._first.password or "'\"$PICLOUD_ADMIN_PASSWORD\"'")

    def _lines(self, platform: Platform) -> list[str]:
        settings = self._settings
        base = settings.http.public_base_url or f"http://{_reachable(settings.http.bind.host)}:{settings.http.bind.port}"
        database = f"embedded PostgreSQL under {settings.data_dir}/" if self._embedded else "PostgreSQL"
        hardening = [name for name, active in platform.sandbox.status().hardening.items() if active]
        lines = [
            f"PiCloud {read_version().product} is ready at {base}",
            f"  roles     {', '.join(settings.process.roles)}",
            f"  database  {database}",
            f"  sandbox   {settings.sandbox.slots} slots; {', '.join(hardening) or 'no hardening available here'}",
        ]
        if "web" not in settings.process.roles:
            return lines
        login = self._login()
        return [
            *lines,
            "",
            "Try:",
            f"  curl {base}/hello",
            f"  curl {base}/readyz",
            f"  curl {base}/api/v1/admin/auth/login -H 'content-type: application/json' -d '{login}'",
            "",
            "Ctrl-C stops it; the data stays.",
        ]


def _login_body(username: str, password: str) -> str:
    return f'{{"username": "{username}", "password": "{password}"}}'


def _reachable(host: str) -> str:
    """A host that a person can type where the server listens on all of them."""
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::", "::1"} else host  # noqa: S104  # shown, not bound
    return f"[{shown}]" if ":" in shown else shown
