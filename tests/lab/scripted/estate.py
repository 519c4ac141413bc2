"""What exists in an account: things of a kind in a region, found by identifier or ARN."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.course import Course, Pace
from tests.lab.sts import ACCOUNT

# What RDS says of its identifiers, in CreateDBSnapshot and everywhere else.
IDENTIFIER = re.compile(r"[A-Za-z](?:-?[A-Za-z0-9])*")
Description = Mapping[str, Any]  # in the words of the API's own output shape
Filters = Mapping[str, Sequence[str]]
GROUPS = {"pg": "DBParameterGroup", "cluster-pg": "DBClusterParameterGroup"}
GONE = ""  # the state of a thing that was deleted


@dataclass
class Thing:
    """One resource: the members of the API's own description, but for its state."""

    description: dict[str, Any]
    course: Course
    pending: dict[str, Any] = field(default_factory=dict)  # applied when the course has ended


class Estate:
    """All things of one service, by kind (as in ARNs: db, snapshot, ...) and region."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.page_size = 100  # the most that a page holds, whatever MaxRecords asks for
        self._things: defaultdict[tuple[str, str], dict[str, Thing]] = defaultdict(dict)

    def all(self, kind: str, region: str) -> dict[str, Thing]:
        """By identifier, in the order of their making; what is gone is forgotten here."""
        things = self._things[kind, region]
        for identifier in [name for name, thing in things.items() if thing.course.state == GONE]:
            del things[identifier]
        return things

    def find(self, kind: str, region: str, identifier: str) -> Thing | None:
        """By identifier in a region, or by ARN wherever it is."""
        if identifier.startswith("arn:"):
            _, _, _, region, _, arn_kind, identifier = identifier.split(":", 6)
            if arn_kind != kind:
                return None
        if kind in GROUPS and identifier.startswith("default."):
            return self._default_group(kind, region, identifier)
        return self.all(kind, region).get(identifier.lower())

    def _default_group(self, kind: str, region: str, name: str) -> Thing:
        """A default parameter group, which RDS makes when it is first needed."""
        found = self.all(kind, region).get(name)
        description = {
            f"{GROUPS[kind]}Name": name,
            f"{GROUPS[kind]}Arn": f"arn:aws:rds:{region}:{ACCOUNT}:{kind}:{name}",
            "DBParameterGroupFamily": name.removeprefix("default."),
            "Description": f"Default parameter group for {name.removeprefix('default.')}",
        }
        return found or self.add(kind, region, name, description, "available")

    def at(self, arn: str) -> Thing | None:
        parts = arn.split(":", 6)
        return self.find(parts[5], parts[3], parts[6]) if len(parts) == 7 else None

    def add(
        self, kind: str, region: str, identifier: str, description: dict[str, Any], *states: str
    ) -> Thing:
        thing = Thing(description, Course(states, self.pace))
        self._things[kind, region][identifier.lower()] = thing
        return thing

    def send(self, thing: Thing, *states: str) -> None:
        thing.course = Course(states, self.pace)

    def page(
        self, call: Call, things: Iterable[Thing], filters: Filters
    ) -> tuple[list[Thing], dict[str, Any]]:
        """The things of one page that pass the call's Filters, and {"Marker": ...} if more follow.

        `filters` names the filters of the operation, and the members of which one must match.
        """
        chosen = [thing for thing in things if passes(call, thing.description, filters)]
        start, end = self._bounds(call)
        return chosen[start:end], _marker(end) if end < len(chosen) else {}

    def page_of(
        self, call: Call, told: Iterable[Description], filters: Filters
    ) -> tuple[list[Description], dict[str, Any]]:
        """The same for what has no state."""
        chosen = [description for description in told if passes(call, description, filters)]
        start, end = self._bounds(call)
        return chosen[start:end], _marker(end) if end < len(chosen) else {}

    def _bounds(self, call: Call) -> tuple[int, int]:
        most = call.input.get("MaxRecords", 100)
        if not 20 <= most <= 100:
            raise Refused(
                "InvalidParameterValue",
                f"Invalid value {most} for MaxRecords. Must be between 20 and 100",
                400,
            )
        start = _offset(call.input.get("Marker", ""))
        return start, start + min(most, self.page_size)


def passes(call: Call, description: Description, filters: Filters) -> bool:
    for one in call.input.get("Filters", ()):
        if one["Name"] not in filters:
            raise Refused("InvalidParameterValue", f"Unrecognized filter name: {one['Name']}", 400)
        told = {str(description.get(name)) for name in filters[one["Name"]]}
        told |= {text.rpartition(":")[2] for text in told if text.startswith("arn:")}
        if not told & set(one["Values"]):
            return False
    return True


def identifier_of(call: Call, member: str, longest: int = 255) -> str:
    """The identifier of a thing to be made, in lower case as RDS stores it."""
    identifier = str(call.input[member])
    if not IDENTIFIER.fullmatch(identifier) or len(identifier) > longest:
        raise Refused(
            "InvalidParameterValue",
            f"The parameter {member} is not a valid identifier. Identifiers must begin with a"
            " letter; must contain only ASCII letters, digits, and hyphens; and must not end"
            " with a hyphen or contain two consecutive hyphens.",
            400,
        )
    return identifier.lower()


def tags_of(given: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    tags = {tag["Key"]: tag.get("Value", "") for tag in given}
    for key in tags:
        if key.lower().startswith(("aws:", "rds:")):
            raise Refused("InvalidParameterValue", f"Tag keys cannot start with {key[:4]}", 400)
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _marker(offset: int) -> dict[str, str]:
    return {"Marker": base64.urlsafe_b64encode(f"after:{offset}".encode()).decode()}


def _offset(marker: str) -> int:
    if not marker:
        return 0
    try:
        word, _, offset = base64.urlsafe_b64decode(marker).decode().partition(":")
        if word == "after":
            return int(offset)
    except ValueError:
        pass  # refused below, as any other marker that was never given out
    raise Refused("InvalidParameterValue", f"The marker {marker} is not valid", 400)
