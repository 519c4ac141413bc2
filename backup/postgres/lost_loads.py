"""Why a pg_restore did not come to its end, and what to do about it."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from backup.errors import AccessError, BackupError, RestoreError, VerificationError
from backup.postgres.messages import Message


def ends_all(message: Message) -> bool:
    """Whether the load is lost with this, though pg_restore would go on from error to error."""
    return any(cause.ends_all and cause.fits(message) for cause in _CAUSES)


def explain_exit(code: int, messages: Sequence[Message]) -> BackupError:
    """What the end of pg_restore means, from its status and what it said."""
    errors = [message.text for message in messages if message.is_error]
    said = "\n".join(errors[-20:])
    # One that ends all has made us kill pg_restore.
    for cause in (cause for cause in _CAUSES if cause.ends_all or code >= 0):
        # The first is the cause, and what follows its consequence.
        for message in messages:
            if cause.fits(message):
                return cause.error(cause.message, detail=message.text, hint=cause.hint)
    if code < 0:
        return RestoreError(
            f"pg_restore was ended by {signal.Signals(-code).name}",
            detail=said or "it said nothing before",
            hint="if nobody did it by hand, the machine ran out of memory: lower jobs"
            if -code == signal.SIGKILL
            else "if nobody did it by hand, report it with the versions of server and pg_restore",
        )
    return RestoreError(
        f"pg_restore failed with exit code {code}",
        detail=said or "it said nothing",
        hint="its messages above name the object; run again once it is mended",
    )


# An error of one statement, after which the session goes on. Its text may be about another
# connection: a materialized view reads a foreign table.
_OF_ONE_STATEMENT = re.compile(r"(?:could not execute query|COPY failed for table .*?): ERROR:")
_ARCHIVE_UNREADABLE = "pg_restore cannot read the archive"
_TRY_ANOTHER = "run `operation: verify` on this backup, and restore the one before it"


@dataclass(frozen=True)
class _Cause:
    """Words of pg_restore or the server, and the lines that a person needs.

    `ends_all` where they make the rest of the load useless even if pg_restore goes on;
    `of_one_statement` where errors of a single statement may mean it.
    """

    pattern: str
    message: str
    hint: str
    ends_all: bool = False
    of_one_statement: bool = False
    error: type[BackupError] = RestoreError

    def fits(self, message: Message) -> bool:
        if not self.of_one_statement and _OF_ONE_STATEMENT.match(message.text):
            return False
        return bool(re.search(self.pattern, f"{message.text}\n{message.statement[:20]}", re.M))


# In the order in which they are looked for.
_CAUSES = (
    _Cause(
        r"could not (?:extend|write to) file|No space left on device",
        "the disk of the target is full",
        "give the server more storage (on RDS raise its allocated storage), then run the restore"
        " again",
        ends_all=True,
        of_one_statement=True,
    ),
    _Cause(
        r"in a read-only transaction|in recovery mode",
        "the target takes no writes",
        "name the primary, not a replica or a reader endpoint; else look for"
        " default_transaction_read_only on the role and the database",
        ends_all=True,
        of_one_statement=True,
    ),
    _Cause(
        r"password authentication failed|PAM authentication failed|no password supplied",
        "the target refused the login of pg_restore",
        "it accepted the same user a moment before: a rotation of the password, or a login token"
        " that is older than 15 minutes; run the restore again",
        error=AccessError,
    ),
    _Cause(
        # pg_restore would go on as the user who logged in, and own everything.
        r"^SET ROLE ",
        "the restore cannot take the role that it was given",
        "create it, and let the user be a member: GRANT the_role TO the_user;",
        ends_all=True,
        of_one_statement=True,
        error=AccessError,
    ),
    _Cause(
        r"permission denied for database",
        "the user may not connect to the target database",
        "GRANT CONNECT, CREATE ON DATABASE the_database TO the_user;",
        error=AccessError,
    ),
    _Cause(
        r'database ".*" does not exist',
        "the target database is not there",
        "create it, or give create-database: true",
    ),
    _Cause(
        r"too many clients|too many connections|remaining connection slots",
        "the target has no connection left for pg_restore",
        "each of the jobs takes one: lower jobs, or raise max_connections or the limit of the role",
    ),
    _Cause(
        r"terminating connection|terminating background|database system is shutting down",
        "the target ended the session of pg_restore",
        "an administrator, a failover or a restart did it: see the server's log, then run the"
        " restore again",
        ends_all=True,
    ),
    _Cause(
        r"server closed the connection|no connection to the server|connection not open"
        r"|SSL connection has been closed|SSL SYSCALL error|could not (?:receive|send) data"
        r"|connection to server .* failed|timeout expired|PQputCopyData",
        "the connection to the target broke",
        "the server restarted, failed over or ran out of memory, or the network failed: see the"
        " server's log, then run the restore again",
        ends_all=True,
    ),
    _Cause(
        r"could not (?:uncompress|decompress|read from input file|open input file)"
        r"|could not close (?:data file|compression)|input file|table of contents|data header",
        _ARCHIVE_UNREADABLE,
        _TRY_ANOTHER,
        # Its digests were right, so it was dumped so, or the manifest was changed as well.
        error=VerificationError,
    ),
    _Cause(
        # The second is a warning alone, and the entry would not be missed.
        r"could not find entry|^line ignored: ",
        _ARCHIVE_UNREADABLE,
        _TRY_ANOTHER,
        ends_all=True,
    ),
)
