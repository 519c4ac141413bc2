"""When a target is not to be written to, and what to write into the workflow instead."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from backup.errors import AccessError, InputError
from backup.model import Extension, ObjectName, ServerVersion
from backup.postgres.globals import OF_THE_SERVICE
from backup.postgres.statements import quoted
from backup.postgres.target import Target, addresses
from backup.wording import count

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Lack:
    """What the archive needs and the target lacks, what that means, and what to do about it."""

    name: str
    consequence: str
    remedy: str


def refuse_unless_new(
    target: Target, *, allow_existing: bool, clean: bool, confirmed: str | None
) -> None:
    """Raise InputError where the target holds something and that was not confirmed."""
    if confirmed is not None and confirmed != target.database:
        raise InputError(
            f"confirm-target says {shown(confirmed)}, and the target is {shown(target.database)}",
            detail="the name is asked for twice so that no restore goes where it was not meant to",
            hint=f"If that is the database to write to: confirm-target: {yaml(target.database)}",
        )
    held = [shown(str(each)) for each in _outlines_first(target.holds)]
    if target.large_objects:
        held.append(count(target.large_objects, "large object"))
    if not held or ((allow_existing or clean) and confirmed):
        return
    more = f" and {len(held) - _SHOWN:,} more" if len(held) > _SHOWN else ""
    way = "clean: true" if clean else "allow-existing: true"
    raise InputError(
        f"the target database {shown(target.database)} is not empty",
        detail=f"it holds {', '.join(held[:_SHOWN])}{more}",
        hint="Restore into a new database: create-database: true with another target database."
        f" To write beside what is there: {way}\nconfirm-target: {yaml(target.database)}",
    )


def refuse_the_source(
    target: Target, *, host: str, port: str, database: str, confirmed: str | None
) -> None:
    """Raise InputError where the target is what was backed up, unless its name is confirmed.

    `host`, `port` and `database` are the manifest's. A server that was rebuilt under the same
    address counts as the source: nothing tells the two apart for sure.
    """
    same_server = {(each, port or "5432") for each in addresses(host)} & target.endpoints
    if not same_server or database != target.database or confirmed == target.database:
        return
    raise InputError(
        f"the target is the source of this backup: {shown(database)} on {host} port {port}",
        detail="a restore would write into the very database that was backed up",
        hint="Restore into another database: create-database: true with another target database."
        f" If it is meant to be overwritten: confirm-target: {yaml(target.database)}",
    )


def refuse_older(target: Target, source: ServerVersion) -> None:
    """Raise InputError where the target's major is older than that of the backup's server."""
    if target.server.major >= source.major:
        return
    raise InputError(
        f"the target is PostgreSQL {target.server.text}, older than the backup's {source.text}",
        detail="definitions of a newer major cannot be loaded into an older one",
        hint=f"Restore into PostgreSQL {source.major} or newer.",
    )


def refuse_unwritable(target: Target) -> None:
    """Raise InputError for a standby or a read-only login, AccessError without CREATE."""
    if target.read_only:
        raise InputError(
            f"the target database {shown(target.database)} can only be read",
            detail="the server is a standby, or default_transaction_read_only is on for the login",
            hint="Name the primary (for Aurora the cluster's writer endpoint); else ALTER DATABASE"
            " ... RESET default_transaction_read_only.",
        )
    if not target.may_create:
        raise AccessError(
            f"{shown(target.login)} may not create anything in {shown(target.database)}",
            detail="it lacks the privilege CREATE on the database",
            hint=f"GRANT CREATE ON DATABASE {quoted(target.database)} TO {quoted(target.login)};"
            " or restore as its owner.",
        )


def refuse_closed(target: Target, schemas: Iterable[str]) -> None:
    """Raise AccessError where the login may create nothing in a schema that is there.

    From 15 on only the owner of a database may do so in `public`:
    https://www.postgresql.org/docs/15/ddl-schemas.html#DDL-SCHEMAS-PATTERNS
    """
    closed = sorted(target.closed_schemas & set(schemas))
    if closed:
        named = ", ".join(map(shown, closed[:_SHOWN]))
        listed = ", ".join(map(quoted, closed))
        raise AccessError(
            f"{shown(target.login)} may not create anything in the schema {named}",
            detail="it lacks the privilege CREATE on the schema, and the backup has objects for it",
            hint=f"GRANT CREATE ON SCHEMA {listed} TO {quoted(target.login)};"
            " or restore as the owner of the database.",
        )


def refuse_collisions(target: Target, wanted: Iterable[ObjectName]) -> None:
    """Raise InputError where objects to restore are there already, so that none is overwritten.

    For a restore beside what is there: rows would be loaded into a table that has rows.
    """
    there = [shown(str(each)) for each in sorted(set(target.holds) & set(wanted))]
    if not there:
        return
    more = f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else ""
    raise InputError(
        f"{count(len(there), 'object')} of the backup exist in {shown(target.database)} already",
        detail=f"{', '.join(there[:_SHOWN])}{more}",
        hint="Restore into a new database and move the rows from there; or have the objects"
        f" dropped and made anew: clean: true\nconfirm-target: {yaml(target.database)}",
    )


def refuse_doubling(target: Target, filled: Iterable[ObjectName]) -> None:
    """Raise InputError where tables of extensions hold rows, to which others would be added."""
    there = [shown(f"{each.schema}.{each.name}") for each in sorted(filled)]
    if not there:
        return
    more = f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else ""
    raise InputError(
        f"{count(len(there), 'table')} of extensions in {shown(target.database)} hold rows already",
        detail=f"{', '.join(there[:_SHOWN])}{more}: the backup has rows for them, and some would be"
        " there twice",
        hint="Delete those rows, or restore into a new database: create-database: true; or restore"
        " the rest by name, with tables or schemas.",
    )


def lacking_extensions(target: Target, needed: Iterable[Extension]) -> list[Lack]:
    """The extensions of the archive that the target cannot have."""
    lacks = []
    for extension in needed:
        offered = target.extensions.get(extension.name)
        if offered is None:
            lacks.append(
                Lack(
                    extension.name,
                    "the server does not have it; what uses its types and functions cannot come",
                    f"install the extension's package, version {extension.version}, on the server",
                )
            )
        elif not (
            offered.installed or offered.trusted or target.is_superuser or target.is_rds_superuser
        ):
            lacks.append(
                Lack(
                    extension.name,
                    f"{shown(target.login)} may not install it",
                    f"as a superuser: CREATE EXTENSION {quoted(extension.name)};",
                )
            )
    return lacks


def lacking_roles(target: Target, needed: Iterable[str]) -> list[Lack]:
    """The owners and grantees of the archive that the target does not have."""
    return [
        Lack(
            role,
            f"what it owns will belong to {shown(target.login)}, and grants to it are left out",
            f"with-globals: true creates it; or CREATE ROLE {quoted(role)};",
        )
        for role in sorted(set(needed) - target.roles)
        if role not in ("", "PUBLIC") and not role.startswith(OF_THE_SERVICE)
    ]


def _outlines_first(names: Iterable[ObjectName]) -> list[ObjectName]:
    """Tables before all else, and the parts of tables last."""
    parts = ("INDEX", "TRIGGER", "RULE", "POLICY", "SCHEMA", "SEQUENCE")

    def rank(name: ObjectName) -> tuple[int, ObjectName]:
        if name.kind == "TABLE":
            return 0, name
        return 2 if name.kind in parts or "CONSTRAINT" in name.kind else 1, name

    return sorted(names, key=rank)


def shown(name: str) -> str:
    """A name as one line of a log can hold it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)


def yaml(name: str) -> str:
    """A name as a value in YAML, whatever characters it has."""
    return json.dumps(name, ensure_ascii=False)
