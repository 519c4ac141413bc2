"""What stands in the way of a restore: the target, read before the first write."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from backup.errors import AccessError
from backup.model import Forward, ObjectName, ServerVersion
from backup.postgres.connection import Connection
from backup.postgres.failures import target_failure
from backup.postgres.objects import objects_in
from backup.postgres.snapshot import server_version
from backup.postgres.statements import quoted
from backup.postgres.unfinished import SCHEMA as MARKER

_FACTS = """
SELECT pg_catalog.current_database(), current_user::text,
       host(pg_catalog.inet_server_addr()), pg_catalog.inet_server_port(),
       me.rolsuper, me.rolcreaterole,
       EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'rds_superuser'
               AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       pg_catalog.current_setting('transaction_read_only')::boolean,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata)
FROM pg_catalog.pg_roles me WHERE me.rolname = current_user
"""
_ROLES = "SELECT rolname FROM pg_catalog.pg_roles"
_EXTENSIONS = """
SELECT a.name, a.default_version, a.installed_version,
       coalesce((SELECT v.trusted FROM pg_catalog.pg_available_extension_versions v
                 WHERE v.name = a.name AND v.version = a.default_version), false)
FROM pg_catalog.pg_available_extensions a
"""
_SCHEMAS_OF_EXTENSIONS = """
SELECT n.nspname FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
"""
# Of schemas that are there, as pg_restore will use them.
_CLOSED = """
SELECT nspname FROM pg_catalog.pg_namespace
WHERE NOT pg_catalog.has_schema_privilege(oid, 'CREATE')
"""
_LARGE_OBJECTS_AMONG = """
SELECT oid::bigint FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY (%s::oid[]) ORDER BY 1
"""
# Tables of extensions whose rows pg_dump dumps, each with the condition for those of users:
# https://www.postgresql.org/docs/current/extend-extensions.html#EXTEND-EXTENSIONS-CONFIG-TABLES
_CONFIGURATION = """
SELECT e.extname::text, n.nspname::text, c.relname::text, given.condition
FROM pg_catalog.pg_extension e,
     unnest(e.extconfig, e.extcondition) AS given (oid, condition)
JOIN pg_catalog.pg_class c ON c.oid = given.oid AND c.relkind = 'r'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""
_NO_SEARCH_PATH = "SELECT pg_catalog.set_config('search_path', '', true)"
_DATA_DIRECTORY = "SELECT pg_catalog.current_setting('data_directory')"


@dataclass(frozen=True, slots=True)
class TargetExtension:
    """An extension that the server can install; `installed` is None where it is not yet."""

    version: str
    installed: str | None
    trusted: bool


@dataclass(frozen=True)
class Target:
    """The database to restore into, as it was before the restore.

    `endpoints` are all the addresses and ports by which it is known, `login` who writes (after a
    SET ROLE the role), `holds` what users made there, `closed_schemas` those in which the login
    may create nothing. `free_bytes` is None where it is not known.
    """

    server: ServerVersion
    database: str
    login: str
    endpoints: frozenset[tuple[str, str]]
    holds: tuple[ObjectName, ...]
    large_objects: int
    extensions: Mapping[str, TargetExtension]
    roles: frozenset[str]
    is_superuser: bool
    is_rds_superuser: bool
    may_create: bool
    closed_schemas: frozenset[str]
    may_create_roles: bool
    read_only: bool
    free_bytes: int | None


def assume(connection: Connection, role: str) -> None:
    """Do everything on this connection as the role, as `pg_restore --role` does.

    Raises AccessError where the login may not.
    """
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    except (psycopg.errors.InsufficientPrivilege, psycopg.DataError) as error:
        login = connection.info.user
        raise AccessError(
            f"{login!r} cannot act as role {role!r}",
            detail=str(error).strip(),
            hint="Create the role, and let the login use it:"
            f" GRANT {quoted(role)} TO {quoted(login)};",
        ) from error
    except psycopg.Error as error:
        raise target_failure(error, "setting the role") from error


def read_target(
    connection: Connection, host: str, port: str, through: Sequence[Forward] = ()
) -> Target:
    """Read what the database is and holds; `host` and `port` are those that were given.

    `through` is the tunnel that leads there, if one does: its end here is not the server's
    address. Raises AccessError or DumpError.
    """
    try:
        with connection.transaction():
            facts = connection.execute(_FACTS).fetchone()
            assert facts is not None  # noqa: S101 - we have logged in, so the role exists
            database, login, address, server_port, is_superuser, may_create_roles = facts[:6]
            is_rds_superuser, may_create, read_only, large_objects = facts[6:]
            roles = frozenset(name for (name,) in connection.execute(_ROLES))
            extensions = {
                name: TargetExtension(version or "", installed, trusted)
                for name, version, installed, trusted in connection.execute(_EXTENSIONS)
            }
            of_extensions = {name for (name,) in connection.execute(_SCHEMAS_OF_EXTENSIONS)}
            closed = frozenset(name for (name,) in connection.execute(_CLOSED))
            directory = _data_directory(connection)
        holds = objects_in(connection)
    except psycopg.Error as error:
        raise target_failure(error, "reading the target") from error
    known = addresses(host) if through else addresses(host) | addresses(connection.info.hostaddr)
    reached = {(each, port) for each in known}
    if address:
        reached |= {(each, str(server_port)) for each in addresses(address)}
    return Target(
        server=server_version(connection),
        database=database,
        login=login,
        endpoints=frozenset(reached),
        holds=tuple(sorted(each for each in holds if not _is_ours(each, of_extensions))),
        large_objects=large_objects,
        extensions=extensions,
        roles=roles,
        is_superuser=is_superuser,
        is_rds_superuser=is_rds_superuser,
        may_create=may_create,
        closed_schemas=closed,
        may_create_roles=may_create_roles or is_superuser,
        read_only=read_only,
        free_bytes=_free_bytes(directory) if _runs_here(connection.info.backend_pid) else None,
    )


def large_objects_among(connection: Connection, oids: Sequence[int]) -> list[int]:
    """Which of those large objects the database has."""
    try:
        with connection.transaction():
            return [oid for (oid,) in connection.execute(_LARGE_OBJECTS_AMONG, [list(oids)])]
    except psycopg.Error as error:
        raise target_failure(error, "looking for large objects") from error


def filled_configuration(
    connection: Connection, wanted: Collection[tuple[str, str]]
) -> list[tuple[str, ObjectName]]:
    """Which of those tables (schema and name) belong to an extension and hold rows of users.

    Each with its extension. Such rows come with a dump, and the table with the extension.
    """
    filled = []
    try:
        for extension, schema, name, condition in connection.execute(_CONFIGURATION).fetchall():
            if (schema, name) not in wanted:
                continue
            query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} {})").format(
                sql.Identifier(schema, name), sql.SQL(condition or "")
            )
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(_NO_SEARCH_PATH)
                    row = connection.execute(query).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                continue  # who may not read it may not write it either
            if row == (True,):
                filled.append((extension, ObjectName("TABLE", schema, name)))
    except psycopg.Error as error:
        raise target_failure(error, "looking at the tables of extensions") from error
    return filled


def _is_ours(name: ObjectName, of_extensions: set[str]) -> bool:
    """Extensions, the schemas made for them, and the marker do not fill a database."""
    if name.kind == "SCHEMA":
        return name.name == MARKER or name.name in of_extensions
    return name.kind == "EXTENSION" or name.schema == MARKER


def addresses(host: str) -> frozenset[str]:
    """All that a host is known by: its name in lower case, its IP addresses, "" for this machine.

    A name that resolves to nothing here is known by itself.
    """
    name = host.lower().rstrip(".")
    if not name or name.startswith(("/", "@")):  # the folder of a socket
        return frozenset({""})
    known = {name}
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        found = set()
    for text in found:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        known.add(str(address))
        if address.is_loopback or _is_here(address):
            known.add("")
    return frozenset(known)


def _is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is an address of this machine: only those can be listened on."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _data_directory(connection: Connection) -> Path | None:
    """None where the login may not ask."""
    try:
        with connection.transaction():
            row = connection.execute(_DATA_DIRECTORY).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return Path(row[0]) if row else None


def _runs_here(process: int) -> bool:
    """Whether a process of the server is one of this machine; a tunnel looks like it from here."""
    try:
        return Path(f"/proc/{process}/comm").read_text().startswith("postgres")
    except OSError:
        return False


def _free_bytes(directory: Path | None) -> int | None:
    """What is free for the server on the disk of its data, where that disk is seen from here."""
    if directory is None:
        return None
    try:
        status = os.statvfs(directory)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
