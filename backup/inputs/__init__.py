"""The reading of the options: `Settings`, or every fault at once, before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote

from backup.errors import Fault, InputError
from backup.inputs import (
    endpoints,
    fleets,
    layers,
    logical,
    notifications,
    requirements,
    storage,
)
from backup.inputs.entries import merged
from backup.options import OPERATIONS, OPTIONS
from backup.reading import Reader
from backup.settings import Settings


def read(values: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Read option names and the texts given for them; an empty text means not given.

    `environment` supplies PGPASSWORD, AWS_REGION and AWS_DEFAULT_REGION.
    Raises InputError with every fault found.
    """
    settings, faults = examined(merged(values), environment)
    if faults:
        raise InputError.from_faults(faults)
    return settings


def examined(
    values: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[Settings, list[Fault]]:
    """The settings and every fault of them, for what knows better where each comes from."""
    reader = Reader(values)
    settings = _settings(reader, environment)
    requirements.check(reader, settings)
    return settings, reader.faults


def readable(values: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """What can be read of inputs that `read` refuses, as if those with faults were not given.

    Good for telling somebody of the refusal, and for nothing else.
    """
    with suppress(InputError):
        values = merged(values)
    left = dict(values)
    while True:
        reader = Reader(left)
        settings = _settings(reader, environment)
        faulty = {fault.option for fault in reader.faults} & left.keys()
        if not faulty:
            return settings
        for name in faulty:
            del left[name]


def _settings(reader: Reader, environment: Mapping[str, str]) -> Settings:
    source = endpoints.source(reader, environment)
    dump = logical.dump(reader)
    return Settings(
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
        replica=storage.replica(reader),
        read_from=storage.read_from(reader),
        notifications=notifications.notifications(reader),
        fleet=fleets.fleet(reader),
        policy=fleets.policy(reader),
    )


def secrets_among(values: Mapping[str, str]) -> list[str]:
    """What must not be shown of the texts given, before any of them is read."""
    given = [values[option.name] for option in OPTIONS if option.secret and values.get(option.name)]
    for url in (values.get("database-url", ""), values.get("target-url", "")):
        # Whatever libpq takes for the password: a raw / or @ in it ends up in other parts.
        if inside := re.match(r"[a-z]+://[^:@]*:(.*)@", url, re.DOTALL):
            given += [inside[1], unquote(inside[1]), *re.split(r"[/@:?]", inside[1])]
    # Who knows what is behind the host of a webhook may post there, as one word or as several.
    behind = re.sub(r"^https?://[^/?#]*", "", values.get("webhook-url", ""))
    given += re.findall(r"[^/?&=#\s]{16,}", behind)
    return [text for text in given if text]
