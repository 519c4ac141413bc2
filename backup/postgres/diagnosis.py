"""What PostgreSQL's refusals mean, and what to do about each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

import psycopg

from backup.errors import AccessError, BackupError, DumpError, InputError

# The libpq of most failures to connect gives no SQLSTATE, only the server's or its own words.
# Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = re.compile(
    r"starting up|shutting down|in recovery mode|not yet accepting connections"
    r"|too many clients|too many connections|remaining connection slots"
    r"|Connection refused|reset by peer|server closed the connection unexpectedly"
    r"|Temporary failure in name resolution",
)
_TRANSIENT_STATES = ("57P03", "57P01", "57P02", "53300")


@dataclass(frozen=True)
class _Rule:
    """Words of a failure, its class, and the lines a person needs; braces name the source."""

    pattern: str
    error: type[BackupError]
    message: str
    hint: str
    states: tuple[str, ...] = ()


_OPEN_THE_WAY = (
    "Runners of GitHub are outside your network, and a database in private subnets has no way in"
    " for them. Let the job run inside the VPC (runs-on: codebuild-PROJECT-${{{{ github.run_id }}}}"
    "-${{{{ github.run_attempt }}}}), or go through an SSH server there: tunnel:"
    " ssh://user@bastion:22; docs/network.md has both. Then check the security group: inbound TCP"
    " {port} from the runner or the SSH server."
)
_NO_TRUST = "no TLS connection to {host} can be trusted (sslmode {sslmode})"
_RULES = (
    _Rule(
        r"PAM authentication failed",
        AccessError,
        "the database refused the login token of user {user}",
        "With iam-auth the user needs GRANT rds_iam TO {user_identifier}; and the role"
        " rds-db:connect on arn:aws:rds-db:REGION:ACCOUNT:dbuser:RESOURCE-ID/{user}. A token is"
        " good for the instance's own host name and port, not for an alias of it.",
    ),
    _Rule(
        r"no password supplied",
        AccessError,
        "the database asks for a password, and none was given",
        "Give one of password (from a secret), password-secret-id, or iam-auth: true.",
    ),
    _Rule(
        r"password authentication failed|SASL authentication failed|no such user"
        r"|authentication failed for user",
        AccessError,
        "the database refused the login of user {user}",
        "Compare the secret with the password of the user: a rotation may have changed it, and"
        " password-secret-id always reads the current one. A user with rds_iam can log in with"
        " iam-auth: true only.",
        ("28P01",),
    ),
    _Rule(
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        AccessError,
        "the server does not let {user} into {database} from here",
        "Where it says `no encryption`, set sslmode: verify-full. Else add to pg_hba.conf:"
        " hostssl {database} {user} ADDRESS/32 scram-sha-256",
    ),
    _Rule(
        r"is not permitted to log in",
        AccessError,
        "user {user} has no LOGIN",
        "ALTER ROLE {user_identifier} LOGIN; GRANT pg_read_all_data TO {user_identifier};",
    ),
    _Rule(
        r'role ".*" does not exist',
        AccessError,
        "there is no user {user}",
        "CREATE ROLE {user_identifier} LOGIN; GRANT pg_read_all_data TO {user_identifier};",
        ("28000",),
    ),
    _Rule(
        r"permission denied for database",
        AccessError,
        "user {user} may not connect to database {database}",
        "GRANT CONNECT ON DATABASE {database_identifier} TO {user_identifier};"
        " GRANT pg_read_all_data TO {user_identifier};",
        ("42501",),
    ),
    _Rule(
        r'database ".*" does not exist|no such database',
        InputError,
        "there is no database {database} on {host}",
        "Write the name as the server has it, upper and lower case alike; psql -l lists them.",
        ("3D000",),
    ),
    _Rule(
        r"certificate verify failed|root certificate file|could not load .*certificate"
        r"|certificate authority",
        DumpError,
        _NO_TRUST,
        "{authority} Its certificate goes into the URL (the password may stay where it is):"
        " database-url: {url}?sslmode=verify-full&sslrootcert=/github/workspace/roots.pem."
        " Only where the network itself is trusted: sslmode: require encrypts and checks nothing.",
    ),
    _Rule(
        r"does not match host name|SSL was required|server does not support SSL|SSL error"
        r"|SSL support is not compiled",
        DumpError,
        _NO_TRUST,
        "Name the server as its certificate does; for RDS by the instance's own host name."
        " Only where the network itself is trusted: sslmode: require encrypts and checks nothing.",
    ),
    _Rule(
        r"could not translate host name|failed to resolve|Name or service not known"
        r"|No address associated",
        DumpError,
        "the host name {host} is not known here",
        "Check its spelling: host is a name alone, without scheme, port or path. Names in a"
        " private zone resolve inside the VPC only. " + _OPEN_THE_WAY,
    ),
    _Rule(
        r"timeout expired|timed out|No route to host|Network is unreachable"
        r"|server closed the connection unexpectedly|reset by peer",
        DumpError,
        "no answer from {host} port {port}",
        _OPEN_THE_WAY,
    ),
    _Rule(
        r"Connection refused",
        DumpError,
        "nothing listens on {host} port {port}",
        "Check the port, that the server runs, and that its listen_addresses are not localhost"
        " alone. For a service container use its label as the host and the port inside it.",
    ),
    _Rule(
        r"too many clients|too many connections|remaining connection slots",
        DumpError,
        "the server has no connection left for us",
        "A dump takes jobs + 2 connections: lower jobs, or raise max_connections or the limit of"
        " the role (ALTER ROLE {user_identifier} CONNECTION LIMIT -1).",
        ("53300",),
    ),
    _Rule(
        r"starting up|shutting down|in recovery mode|not (?:yet|currently) accepting connections",
        DumpError,
        "the server does not take connections at the moment",
        "It starts, stops, or fails over: run the workflow again when it is up.",
        ("57P03", "57P01", "57P02"),
    ),
)


def is_transient(error: psycopg.OperationalError) -> bool:
    """Whether the same attempt may succeed in a moment. A refused login never does."""
    return error.sqlstate in _TRANSIENT_STATES or bool(_TRANSIENT.search(str(error)))


def connection_failure(
    text: str,
    sqlstate: str | None,
    *,
    host: str,
    port: str,
    database: str,
    user: str,
    sslmode: str,
) -> BackupError:
    """The error for a connection that was not made; `text` is libpq's, without any secret."""
    words = {
        "host": host,
        "port": port,
        "database": database,
        "user": user,
        "sslmode": sslmode,
        "user_identifier": _identifier(user),
        "database_identifier": _identifier(database),
        "authority": _authority(host),
        "url": f"postgresql://{quote(user, safe='')}@{host}:{port}/{quote(database, safe='')}",
    }
    # With sslmode prefer libpq tries twice, and says the same twice.
    detail = "\n".join(dict.fromkeys(text.strip().removeprefix("connection failed: ").splitlines()))
    by_state = [rule for rule in _RULES if sqlstate in rule.states]
    by_words = [rule for rule in _RULES if re.search(rule.pattern, text)]
    for rule in by_state or by_words:
        message = rule.message.format_map(words)
        return rule.error(message, detail=detail, hint=rule.hint.format_map(words))
    return DumpError(
        f"cannot connect to {host} port {port}",
        detail=detail,
        hint=f"Try the same from the runner: psql -h {host} -p {port} -U {user} {database}",
    )


# Where each partition of AWS publishes the roots of RDS; the first whose pattern fits the host.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
# https://docs.amazonaws.cn/en_us/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
_TRUSTSTORES = (
    (r"\.rds\.cn-[a-z0-9-]+\.amazonaws\.com\.cn", "rds-truststore.s3.cn-north-1.amazonaws.com.cn"),
    (r"\.us-gov-[a-z0-9-]+\.rds\.amazonaws\.com", "truststore.pki.us-gov-west-1.rds.amazonaws.com"),
    (r"\.rds\.amazonaws\.com", "truststore.pki.rds.amazonaws.com"),
)


def _authority(host: str) -> str:
    """How to come by the certificate of the authority that vouches for `host`."""
    for pattern, truststore in _TRUSTSTORES:
        if re.search(pattern + r"\.?$", host, re.IGNORECASE):
            return (
                "No root in the image vouches for this server, as for a region of RDS that is"
                " newer than the release: use the newest, or fetch what Amazon publishes in a"
                f" step before: curl -fsSo roots.pem https://{truststore}/global/global-bundle.pem."
            )
    return (
        "For RDS name the instance by its own host name: its roots are in the image. For other"
        " servers put the certificate of their authority into the repository as roots.pem."
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
