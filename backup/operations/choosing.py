"""The right pg_dump for a server, and what it can compress with."""

from __future__ import annotations

from collections.abc import Mapping

from backup.console import Console
from backup.errors import InputError, RestoreError
from backup.model import Client, ServerVersion
from backup.postgres.clients import best_compression, choose, installed, supports
from backup.settings import Compression


def client_for(server: ServerVersion, console: Console, environment: Mapping[str, str]) -> Client:
    """The client of the server's own major, or a newer one with a warning. Raises DumpError."""
    choice = choose(server, installed(environment))
    if choice.warning:
        console.warning("No pg_dump of the server's own version", choice.warning)
    return choice.client


def compression_for(wanted: Compression | None, client: Client) -> Compression:
    """What was asked for, if the client can; without that the best it can. Raises InputError."""
    if wanted is None:
        return best_compression(client)
    if not supports(client, wanted.method):
        raise InputError(
            f"pg_dump {client.version} cannot compress with {wanted.method}",
            detail="zstd and lz4 came with pg_dump 16, and the client of the server's version"
            " is used so that the archive restores there",
            hint=f"leave compression out, or write gzip:{wanted.level or 1}",
        )
    return wanted


def restorer_for(
    archive: Client, compression: str, server: ServerVersion, environment: Mapping[str, str]
) -> Client:
    """The pg_restore of the target's major, or the nearest that can read the archive.

    `archive` made it: an older pg_restore may not know its format. Raises RestoreError.
    """
    method = compression.partition(":")[0]
    clients = installed(environment)
    able = [each for each in clients if each.major >= archive.major and supports(each, method)]
    if not able:
        found = ", ".join(each.version for each in clients) or "none"
        raise RestoreError(
            f"no pg_restore here can read an archive of pg_dump {archive.version} with {method}",
            detail=f"found {found}",
            hint=f"use the action's image, or install postgresql-client-{archive.major}",
        )
    return min(able, key=lambda each: (each.major < server.major, abs(each.major - server.major)))


def redumper_for(restorer: Client, server: ServerVersion, environment: Mapping[str, str]) -> Client:
    """The pg_dump for what was restored: the restorer's own, unless the server is newer than it.

    Raises DumpError where every pg_dump here is older.
    """
    if restorer.major >= server.major:
        return restorer
    return choose(server, installed(environment)).client
