"""What each error of pg_restore means for the restored database.

pg_restore gives no SQLSTATE, so a class is told by the statement that failed and by the server's
words. The statement decides where it can: a grant that failed is a grant that is missing, in
whatever language the server says so. What no rule knows is fatal.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from backup.model import Complaint, ObjectName, Severity
from backup.postgres.messages import Message

# Roles that RDS and Aurora bring along, and no other server has:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
_AMAZON = r'"?rds(?:admin|repladmin|topmgr|writeforwarduser|proxyadmin|_\w+)\b"?'
_OWNER = r'ALTER .* OWNER TO (?:"(?:[^"]|"")*"|[^\s"]+);?\Z'
_GRANTS = r"GRANT |REVOKE |ALTER DEFAULT PRIVILEGES |SET SESSION AUTHORIZATION "
_NO_ROWS = "the rows of this table are not there"
_SETTING = r"SET \w+ = "


@dataclass(frozen=True)
class _Rule:
    """`statement` matches from the start of what was asked, `said` anywhere in the answer.

    Groups of `said` stand in braces in `reason`.
    """

    statement: str
    said: str
    severity: Severity
    reason: str


_RULES = (
    _Rule(
        _SETTING,
        r"unrecognized configuration parameter",
        Severity.HARMLESS,
        "pg_restore is newer than the server, which does without this setting",
    ),
    _Rule(r"COMMENT ON EXTENSION ", r"", Severity.HARMLESS, "the extension brings its own comment"),
    _Rule(
        r"CREATE (?:SCHEMA|EXTENSION|(?:OR REPLACE )?(?:TRUSTED )?PROCEDURAL LANGUAGE) ",
        r"already exists",
        Severity.HARMLESS,
        "it is there already, and holds nothing of its own",
    ),
    _Rule(
        r"COMMENT ON SCHEMA public |ALTER SCHEMA public OWNER TO ",
        r"must be owner of schema public|pg_database_owner",
        Severity.HARMLESS,
        "the schema public belongs to the target's administrator",
    ),
    _Rule(
        r"(?:COMMENT ON|ALTER) (?:PROCEDURAL )?LANGUAGE plpgsql ",
        r"must be owner of language",
        Severity.HARMLESS,
        "the language belongs to the target's administrator",
    ),
    _Rule(
        r"SELECT (?:\* FROM )?pg_catalog\.pg_restore_(?:relation|attribute|extended)_stats",
        r"",
        Severity.HARMLESS,
        "statistics of the planner come back with ANALYZE",
    ),
    _Rule(
        rf"ALTER .* OWNER TO {_AMAZON};?\Z",
        r"",
        Severity.HARMLESS,
        "its owner is a role of RDS itself",
    ),
    _Rule(
        r"ALTER DEFAULT PRIVILEGES FOR ROLE " + _AMAZON,
        r"",
        Severity.HARMLESS,
        "these defaults are for objects of a role of RDS itself",
    ),
    _Rule(
        # All of them: one statement that fails takes the others of the entry with it.
        rf"(?:(?:GRANT|REVOKE) [^;]* (?:TO|FROM) {_AMAZON}[^;]*;\s*)+\Z",
        r"",
        Severity.HARMLESS,
        "these grants are to a role of RDS itself",
    ),
    _Rule(
        _OWNER,
        r'role "(?P<role>.*?)" does not exist',
        Severity.DEGRADED,
        "its owner {role} is not on the target, so it belongs to the user who restored it",
    ),
    _Rule(
        _OWNER,
        r'(?:SET ROLE|member of role) "(?P<role>.*?)"',
        Severity.DEGRADED,
        "only a member of {role} may give it to that role, so it belongs to the user who restored"
        " it",
    ),
    _Rule(
        # Its owner is set in the same entry.
        _OWNER,
        r"does not exist",
        Severity.HARMLESS,
        "it is missing itself, which another complaint tells",
    ),
    _Rule(_OWNER, r"", Severity.DEGRADED, "its owner could not be set"),
    _Rule(
        _GRANTS,
        r'role "(?P<role>.*?)" does not exist',
        Severity.DEGRADED,
        "role {role} is not on the target; a grant that fails takes with it all others on the same"
        " object, and what was revoked there",
    ),
    _Rule(_GRANTS, r"", Severity.DEGRADED, "nothing was granted or revoked on this object"),
    _Rule(
        r"CREATE EXTENSION ",
        r"is not available|could not open extension control file|No such file",
        Severity.DEGRADED,
        "the target does not have this extension",
    ),
    _Rule(
        r"CREATE EXTENSION ",
        r"permission denied|must be superuser",
        Severity.DEGRADED,
        "the user may not create this extension",
    ),
    _Rule(r"CREATE EXTENSION ", r"", Severity.DEGRADED, "the extension could not be created"),
    _Rule(r"COMMENT ON ", r"", Severity.DEGRADED, "its comment is missing"),
    _Rule(
        r"SECURITY LABEL ",
        r"",
        Severity.DEGRADED,
        "its security label is missing: the target has not loaded the provider, or refused it",
    ),
    _Rule(
        r"(?:CREATE|ALTER) PUBLICATION ",
        r"",
        Severity.DEGRADED,
        "a publication is missing or not whole; the rows do not depend on it",
    ),
    _Rule(
        r"(?:CREATE|ALTER) SUBSCRIPTION ",
        r"",
        Severity.DEGRADED,
        "a subscription is missing; the rows do not depend on it",
    ),
    _Rule(
        r"(?:CREATE|ALTER) EVENT TRIGGER ",
        r"permission denied|must be superuser|must be owner|event trigger .* does not exist",
        Severity.DEGRADED,
        "only a superuser may create event triggers",
    ),
    _Rule(
        r"(?:CREATE|ALTER) (?:FOREIGN DATA WRAPPER|SERVER|USER MAPPING) ",
        r"",
        Severity.DEGRADED,
        "the way to a foreign server is missing; the database's own rows do not depend on it",
    ),
    _Rule(
        r"(?:CREATE|ALTER) FOREIGN TABLE ",
        r"server .* does not exist",
        Severity.DEGRADED,
        "a foreign table is missing, for its server is; its rows lie elsewhere",
    ),
    _Rule(
        r"",
        r'could not set "?default_tablespace',
        Severity.DEGRADED,
        "its tablespace is not on the target, so it lies in the default one",
    ),
    _Rule(
        r"",
        r'could not set "?default_table_access_method',
        Severity.DEGRADED,
        "its access method is not on the target, so it has the default one",
    ),
    # The rest says in plain words what is missing.
    _Rule(
        # Without a restrictive policy rows show that nobody should see, without a permissive one
        # rows hide that the application needs.
        r"CREATE POLICY |ALTER TABLE [^;]* ENABLE ROW LEVEL SECURITY",
        r"",
        Severity.FATAL,
        "a policy is missing: the table shows or hides other rows than it did",
    ),
    _Rule(r"COPY ", r"", Severity.FATAL, _NO_ROWS),
    _Rule(r"", r"COPY failed for table", Severity.FATAL, _NO_ROWS),
    _Rule(
        r"",
        r"violates foreign key constraint",
        Severity.FATAL,
        "the foreign key is missing: rows refer to others that are not there",
    ),
    _Rule(
        r"",
        r"could not create unique index|violates .* constraint",
        Severity.FATAL,
        "the constraint is missing: rows break it",
    ),
    _Rule(
        r"",
        r"already exists",
        Severity.FATAL,
        "another of that name was there before, and was left as it is",
    ),
    _Rule(
        r"",
        r"permission denied|must be owner|must be superuser",
        Severity.FATAL,
        "it is missing, for the user may not create it",
    ),
    _Rule(
        r"",
        r"does not exist",
        Severity.FATAL,
        "it is missing, for it needs something that is not there",
    ),
    _Rule(r"", r"ERROR:|FATAL:", Severity.FATAL, "it is missing"),
    _Rule(
        r"",
        r"could not execute query: \w+:",
        Severity.FATAL,
        "the server's words are not English, so what they mean is not known",
    ),
)
_UNKNOWN = _Rule("", "", Severity.FATAL, "what it means is not known")
_EXISTS = "others need it, and it is there already"


def classify(
    errors: Iterable[Message], names: Mapping[int, ObjectName], needed: Collection[int]
) -> tuple[Complaint, ...]:
    """One complaint for each error. `names` are those of the entries, by dump id.

    `needed` are the entries that others need, and that may be on the target already.
    """
    return tuple(_complaint(error, names, needed) for error in errors)


def _complaint(
    error: Message, names: Mapping[int, ObjectName], needed: Collection[int]
) -> Complaint:
    # Workers that begin say SET in the name of the entry that the leader was at.
    entry_id = None if re.match(_SETTING, error.statement) else error.entry_id
    severity, reason = _judge(error)
    if entry_id in needed and _is_there(error):
        severity, reason = Severity.HARMLESS, _EXISTS
    return Complaint(
        entry_id=entry_id,
        about=None if entry_id is None else names.get(entry_id),
        said=error.text.removeprefix("could not execute query: "),
        statement=error.statement,
        severity=severity,
        reason=reason,
    )


def _judge(error: Message) -> tuple[Severity, str]:
    for rule in _RULES:
        match = re.search(rule.said, error.text)
        if match and re.match(rule.statement, error.statement, re.DOTALL):
            return rule.severity, rule.reason.format_map(match.groupdict())
    return _UNKNOWN.severity, _UNKNOWN.reason


def _is_there(error: Message) -> bool:
    return error.statement.startswith("CREATE ") and "already exists" in error.text
