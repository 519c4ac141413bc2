"""SQL that lets a login read what it lacks: few statements, each on one line, to be pasted.

Names come from the database and may hold anything: each is quoted, and what is no printable
character is escaped, so that no name ends a line or a comment.
"""

from __future__ import annotations

from collections.abc import Sequence

from backup.postgres.privileges import Named, Privileges

_MOST_STATEMENTS = 8


def identifier(name: str) -> str:
    """A name as SQL wants it: "Orders", or U&"a\\000Ab" for one that holds a line's end.

    https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS-UESCAPE
    """
    inside = name.replace('"', '""')
    if name.isprintable():
        return f'"{inside}"'
    escaped = "".join(
        each if each.isprintable() and each != "\\" else f"\\+{ord(each):06X}" for each in inside
    )
    return f'U&"{escaped}"'


def literal(text: str) -> str:
    """A string as SQL wants it, on one line."""
    inside = text.replace("'", "''")
    if text.isprintable() and "\\" not in text:
        return f"'{inside}'"
    escaped = "".join(
        each if each.isprintable() and each != "\\" else f"\\+{ord(each):06X}" for each in inside
    )
    return f"U&'{escaped}'"


def to_read(privileges: Privileges) -> str:
    """For schemas, tables and sequences: one role for all of them, or exactly what is missing."""
    user = identifier(privileges.user)
    exact = [f"GRANT USAGE ON SCHEMA {identifier(each)} TO {user};" for each in
             privileges.schemas.schemas]  # fmt: skip
    for kind, kinds, lacking in (
        ("TABLE", "TABLES", privileges.tables.relations),
        ("SEQUENCE", "SEQUENCES", privileges.sequences.relations),
    ):
        exact += _grants(kind, kinds, lacking, user)
    lines = [f"GRANT pg_read_all_data TO {user};"]
    if len(exact) <= _MOST_STATEMENTS:
        lines.append("-- or no more than what is missing today, which leaves out what comes later:")
        lines += [f"-- {statement}" for statement in exact]
    return "\n".join(lines)


def to_read_large_objects(privileges: Privileges) -> str:
    """pg_read_all_data does not cover them, and before 18 no default privileges do."""
    user = identifier(privileges.user)
    numbers = privileges.large_objects
    if len(numbers) <= _MOST_STATEMENTS:
        return f"GRANT SELECT ON LARGE OBJECT {', '.join(map(str, numbers))} TO {user};"
    body = (
        "DECLARE each oid; BEGIN FOR each IN SELECT oid FROM pg_largeobject_metadata LOOP"  # noqa: S608
        f" EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO %I', each,"
        f" {literal(privileges.user)}); END LOOP; END"
    )
    return (
        f"DO {literal(body)};\n"
        "-- or, which covers those of tomorrow too, and lets every user read them:\n"
        f"-- ALTER DATABASE {identifier(privileges.database)} SET lo_compat_privileges = on;"
    )


def to_see_all_rows(privileges: Privileges) -> str:
    """Not every server has somebody who may run it.

    https://www.postgresql.org/docs/current/sql-alterrole.html
    """
    user = identifier(privileges.user)
    return (
        f"ALTER ROLE {user} BYPASSRLS;\n"
        "-- to be run by who has it, before 16 by a superuser; where there is nobody (as RDS may"
        " have it):\n"
        f"-- GRANT the role that owns the tables TO {user}, which then may write to them too; not"
        " enough where they FORCE ROW LEVEL SECURITY"
    )


def to_connect_often(kind: str, name: str) -> str:
    """`kind` is ROLE or DATABASE."""
    return f"ALTER {kind} {identifier(name)} CONNECTION LIMIT -1;"


def to_lock_more(per_transaction: int) -> str:
    return (
        f"ALTER SYSTEM SET max_locks_per_transaction = {per_transaction};\n"
        "-- and restart the server; of RDS: set it in the parameter group, and reboot"
    )


def _grants(kind: str, kinds: str, lacking: Sequence[Named], user: str) -> list[str]:
    if len(lacking) <= _MOST_STATEMENTS // 2:
        return [
            f"GRANT SELECT ON {kind} {identifier(each.schema)}.{identifier(each.name)} TO {user};"
            for each in lacking
        ]
    schemas = dict.fromkeys(each.schema for each in lacking)
    return [
        f"GRANT SELECT ON ALL {kinds} IN SCHEMA {identifier(each)} TO {user};" for each in schemas
    ]
