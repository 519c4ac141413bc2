"""The right pg_dump for a server, and what it can compress with."""

from __future__ import annotations

from collections.abc import Mapping

from backup.console import Console
from backup.errors import InputError
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
