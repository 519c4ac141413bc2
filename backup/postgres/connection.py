"""How to reach the source: one description of it for our own connection and for pg_dump's.

libpq reads a parameter from the environment where none is given. A job's environment must not
be able to point the backup at another database, so both ways in drop what could do that.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import psycopg
import psycopg.conninfo
from psycopg.pq import TransactionStatus

from backup.errors import InputError
from backup.model import Forward
from backup.postgres.diagnosis import connection_failure, is_transient
from backup.settings import Secret

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# Parameters of https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_DEFAULTS = {
    "connect_timeout": "15",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}
_CANCEL_SECONDS = 0.5
_NO_LIMITS = """
SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
WHERE name IN ('idle_session_timeout', 'idle_in_transaction_session_timeout',
               'statement_timeout', 'transaction_timeout')
"""

# Their values are secrets, and pg_dump takes parameters only through argv.
_SECRET_PARAMETERS = (
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)
# client_encoding would change the encoding of the dump, service what is dumped, passfile who asks.
_DROPPED_PARAMETERS = ("client_encoding", "service", "passfile", "password")

# https://www.postgresql.org/docs/current/libpq-envars.html: how to prove who we are, and nothing
# of what we connect to.
_KEPT_PG_VARIABLES = re.compile(
    r"PGSSL(?:CERT|KEY|ROOTCERT|CRL|CRLDIR|CERTMODE|SNI|NEGOTIATION)"
    r"|PGSSL(?:MIN|MAX)PROTOCOLVERSION"
    r"|PG(?:CHANNELBINDING|REQUIREAUTH|REQUIREPEER|KRBSRVNAME|GSSLIB|GSSENCMODE|GSSDELEGATION)"
)
_KEPT_VARIABLES = re.compile(r"HOME|PATH|TMPDIR|USER|SSL_CERT_FILE|SSL_CERT_DIR|KRB5\w*")


def no_password() -> Secret | None:
    """The password of a source that needs none."""
    return None


@dataclass(frozen=True)
class Source:
    """The database to read, as libpq's parameters.

    `password` is called anew for each attempt to connect, for a login token must be fresh.
    `parameters` are those beyond the named ones, and override our defaults. `forwards` are the
    ends here of the tunnel that leads there, one for each host; none where the way is direct.
    """

    host: str
    database: str
    user: str
    port: str = "5432"
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    password: Callable[[], Secret | None] = field(default=no_password, repr=False)
    forwards: tuple[Forward, ...] = ()


def tls(given: str | None, roots: str | None) -> tuple[str, str | None]:
    """sslmode and sslrootcert: what was given, else the strictest that the roots allow.

    `roots` is the file of the authorities that sign this host, where they are known.
    """
    # With a root file `require` would check the chain all the same, which its name does not say:
    # https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS
    verifies = given is None or given.startswith("verify-")
    return given or ("verify-full" if roots else "prefer"), roots if verifies else None


def conninfo(source: Source, *, application_name: str = "pg-backup-action") -> str:
    """The connection string without the password, fit for `pg_dump --dbname`.

    Raises InputError for parameters that are secrets, since argv is open to everyone.
    """
    for name, _ in source.parameters:
        if name in _SECRET_PARAMETERS:
            raise InputError(
                f"the connection parameter {name} cannot be used",
                detail="pg_dump takes it only on its command line, where every process can read it",
                hint="Remove it from database-url, and use a key file that needs no password.",
            )
    parameters: dict[str, str | None] = {
        **_DEFAULTS,
        "application_name": application_name,
        "host": source.host,
        "port": source.port,
        "dbname": source.database,
        "user": source.user,
        "sslmode": source.sslmode,
        "sslrootcert": source.sslrootcert,
    }
    parameters |= {
        name: value for name, value in source.parameters if name not in _DROPPED_PARAMETERS
    }
    if source.forwards:
        # The certificate, and a login by token, are still for the host that is named:
        # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-HOSTADDR
        parameters |= {
            "host": ",".join(each.host for each in source.forwards),
            "hostaddr": ",".join("127.0.0.1" for _ in source.forwards),
            "port": ",".join(str(each.local_port) for each in source.forwards),
        }
    return psycopg.conninfo.make_conninfo(
        **{name: value for name, value in parameters.items() if value is not None}
    )


def connect(
    source: Source,
    *,
    application_name: str = "pg-backup-action",
    pauses: Sequence[float] = (1, 2, 4),
) -> Connection:
    """Connect, not in autocommit, trying again after each pause (seconds) while that may help.

    Raises AccessError where the login is refused, InputError where there is no such database,
    DumpError where the server cannot be reached.
    """
    _forget_inherited_variables()
    target = conninfo(source, application_name=application_name)
    for pause in (*pauses, None):
        secret = source.password()
        try:
            return psycopg.Connection.connect(
                target,
                password=secret.value if secret else None,
                # Names are read as text, whatever encoding the database has.
                client_encoding="utf8",
                # Prepared statements do not survive a pooler in transaction mode.
                prepare_threshold=None,
            )
        except psycopg.ProgrammingError as error:
            raise InputError(
                "database-url has a parameter that libpq refuses",
                detail=str(error).strip(),
                hint="see https://www.postgresql.org/docs/current/libpq-connect.html",
            ) from error
        except psycopg.OperationalError as error:
            if pause is None or not is_transient(error):
                text = str(error).replace(secret.value, "***") if secret else str(error)
                raise connection_failure(
                    text,
                    error.sqlstate,
                    host=source.host,
                    port=source.port,
                    database=source.database,
                    user=source.user,
                    sslmode=source.sslmode,
                ) from error
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def pinned(source: Source, connection: Connection) -> Source:
    """The same source at the very address that `connection` reached.

    One name may lead to several servers (a reader endpoint, a list of hosts), and a snapshot
    exported by one of them means nothing to the others. Beyond a tunnel the name is resolved anew
    for each connection, and nothing here can change that.
    """
    info = connection.info
    kept = tuple(
        (name, value)
        for name, value in source.parameters
        if name not in ("hostaddr", "target_session_attrs", "load_balance_hosts")
    )
    for forward in source.forwards:
        if forward.local_port == info.port:
            return replace(
                source,
                host=forward.host,
                port=forward.port,
                parameters=kept,
                forwards=(forward,),
            )
    address = (("hostaddr", info.hostaddr),) if info.hostaddr else ()
    return replace(source, host=info.host, port=str(info.port), parameters=kept + address)


def lift_limits(connection: Connection) -> None:
    """Let this session idle for hours, as it does while others load, whatever the role allows."""
    connection.execute(_NO_LIMITS)
    connection.commit()


def answers(connection: Connection) -> bool:
    """Whether the session, on which no transaction is open, is still there."""
    try:
        connection.execute("SELECT")
        connection.commit()
    except psycopg.OperationalError:
        return False
    return True


def cancel(connection: Connection) -> None:
    """End what runs on the server; a server that does not answer learns of it later."""
    with contextlib.suppress(psycopg.Error):
        connection.cancel_safe(timeout=_CANCEL_SECONDS)


def hang_up(connection: Connection) -> None:
    """Close a connection that only read, whatever state it is in. Never waits for the server.

    What still runs there is cancelled: it would go on to wait for a lock, or to count.
    """
    if connection.info.transaction_status == TransactionStatus.ACTIVE:
        cancel(connection)
    connection.close()


def child_environment(source: Source, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of one run of pg_dump or its kin: little, with a fresh password.

    Variables of libpq that name a source, and those that change how programs load, stay behind.
    pg_dump's workers log in with the password of its first connection, so a login token, good
    for 15 minutes, must outlast the reading of the catalogue.
    """
    environment = {
        name: value
        for name, value in inherited.items()
        if _KEPT_VARIABLES.fullmatch(name) or _KEPT_PG_VARIABLES.fullmatch(name)
    }
    # Messages in English, for the log and for those who look them up; names pass as bytes.
    environment["LC_ALL"] = "C"
    # pg_dump writes times in the zone of its session, and a drill compares what it wrote.
    environment["PGTZ"] = "UTC"
    if secret := source.password():
        environment["PGPASSWORD"] = secret.value
    return environment


def _forget_inherited_variables() -> None:
    """Take from our own environment what libpq would read from it behind our back.

    PGSERVICE cannot be overridden by a parameter, so passing them all would not do.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        if not (_KEPT_PG_VARIABLES.fullmatch(name) or name.startswith("PG_BACKUP_")):
            del os.environ[name]
