"""The reading of the options: `Settings`, or every fault at once, before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from backup.errors import InputError
from backup.inputs import endpoints, layers, logical, requirements, storage
from backup.options import OPERATIONS, OPTIONS
from backup.reading import Reader
from backup.settings import Settings


def read(values: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Read option names and the texts given for them; an empty text means not given.

    `environment` supplies PGPASSWORD, AWS_REGION and AWS_DEFAULT_REGION.
    Raises InputError with every fault found.
    """
    reader = Reader(values)
    source = endpoints.source(reader, environment)
    dump = logical.dump(reader)
    settings = Settings(
        operation=reader.choice("operation", tuple(OPERATIONS)),
        role=storage.role(reader, environment),
        bucket=storage.bucket(reader),
        database=source.database,
        source=source,
        target=endpoints.target(reader, source),
        dump=dump,
        restore=logical.restore(reader, dump),
        thaw=logical.thaw(reader),
        verify=logical.verify(reader),
        tunnel=endpoints.tunnel(reader),
        rds=layers.rds(reader),
        wait_seconds=layers.wait_seconds(reader),
        snapshot=layers.snapshot(reader),
        recovery=layers.recovery(reader),
        export=layers.export(reader),
        audit=layers.audit(reader),
    )
    requirements.check(reader, settings)
    if reader.faults:
        raise InputError.from_faults(reader.faults)
    return settings


def secrets_among(values: Mapping[str, str]) -> list[str]:
    """What must not be shown of the texts given, before any of them is read."""
    given = [values[option.name] for option in OPTIONS if option.secret and values.get(option.name)]
    for url in (values.get("database-url", ""), values.get("target-url", "")):
        # Whatever libpq takes for the password: a raw / or @ in it ends up in other parts.
        if inside := re.match(r"[a-z]+://[^:@]*:(.*)@", url, re.DOTALL):
            given += [inside[1], unquote(inside[1]), *re.split(r"[/@:?]", inside[1])]
    return [text for text in given if text]
