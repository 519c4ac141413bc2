"""Steps of the doctor: how to log in, the tunnel, the way, the login itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from backup.aws.session import AwsSession, anonymous_session
from backup.checks import Check, Known, ask
from backup.console import Console
from backup.operations.auditing.setup_course import Course, Step, passed
from backup.operations.auditing.setup_network import look_at_way
from backup.operations.reaching import through
from backup.operations.sources import find_source
from backup.postgres.connection import Connection, Source, connect, hang_up
from backup.postgres.snapshot import server_version
from backup.settings import SourceSettings, TunnelSettings

_REGION_OF_NOBODY = "us-east-1"


def find(
    course: Course, given: SourceSettings, session: AwsSession | None, console: Console
) -> Source | None:
    """The source; where only its login is missing, the place as far as the inputs tell it."""
    asks_aws = given.password_secret_id is not None or given.iam_auth
    user = session or anonymous_session(_REGION_OF_NOBODY)

    def whole() -> Source:
        source = find_source(given, user, console)
        source.password()  # a login token is made here, and a secret was read
        return source

    found = course.look(
        Step.SECRET, whole, lambda source: _told_login(given, source),
        (Step.ROLE,) if asks_aws else (),
    )  # fmt: skip
    if found:
        return found
    bare = replace(given, password_secret_id=None, iam_auth=False)
    place = ask(lambda: find_source(bare, user, console))
    return place.value if isinstance(place, Known) else None


def _told_login(given: SourceSettings, source: Source) -> Check:
    where = f"user {source.user}, database {source.database} on {source.host} port {source.port}"
    if given.iam_auth:
        how = "with a login token of the role"
    elif given.password_secret_id:
        how = f"with the password in {given.password_secret_id}"
    else:
        how = "with the password given" if given.password else "without a password"
    return passed(Step.SECRET, f"{where}, {how}")


def opened(
    course: Course,
    source: Source | None,
    tunnel: TunnelSettings | None,
    session: AwsSession | None,
    console: Console,
    environment: Mapping[str, str],
    undo: ExitStack,
) -> Source | None:
    """The source, with the way to it open; None where it is not."""
    if source is None:
        steps = (Step.TUNNEL,) if tunnel else ()
        for step in (*steps, Step.DNS, Step.TCP, Step.TLS):
            course.ready(step, Step.SECRET)
        return None
    if tunnel:
        server = f"ssh://{tunnel.user}@{tunnel.host}:{tunnel.port}"
        user = session or anonymous_session(_REGION_OF_NOBODY)
        way = through(source, tunnel, user, console, environment)
        source = course.look(
            Step.TUNNEL,
            lambda: undo.enter_context(way),
            lambda _: passed(Step.TUNNEL, f"{server} lets us in, and shows the expected host key"),
            (Step.ROLE,),
        )
        if source is None:
            for step in (Step.DNS, Step.TCP, Step.TLS):
                course.ready(step, Step.TUNNEL)
            return None
    look_at_way(course, source, environment)
    return source


def logged_in(course: Course, source: Source | None, undo: ExitStack) -> Connection | None:
    """A connection as the dump would open it."""

    def log_in() -> Connection:
        assert source is not None  # noqa: S101 - the step rests on the way
        connection = connect(source, pauses=())
        undo.callback(hang_up, connection)
        return connection

    def told(connection: Connection) -> Check:
        info = connection.info
        how = "encrypted" if connection.pgconn.ssl_in_use else "not encrypted"
        version = server_version(connection).text
        return passed(Step.LOGIN, f"{info.user} is in {info.dbname}, PostgreSQL {version}; {how}")

    return course.look(Step.LOGIN, log_in, told, (Step.SECRET, Step.TLS))
