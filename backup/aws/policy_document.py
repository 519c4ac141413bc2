"""A policy as IAM takes it: the statements of several operations in one document.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backup.aws.policy import Grant

# Characters that are no white space, of a managed policy and of all inline policies of a role.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entity-length
MOST_MANAGED, MOST_INLINE = 6_144, 10_240


def document(statements: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def as_text(policy: Mapping[str, Any]) -> str:
    return json.dumps(policy, indent=2)


def length(policy: Mapping[str, Any]) -> int:
    """In the characters that IAM counts."""
    return len(re.sub(r"\s", "", json.dumps(policy)))


def merged(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """The same permissions without what is said twice; no two statements have one sid."""
    given = list(grants)
    found: list[Grant] = []
    for place, grant in enumerate(given):
        actions = tuple(
            action for action in grant.actions if not _is_said_elsewhere(action, place, given)
        )
        same = next((each for each in found if _is_about_the_same(each, grant)), None)
        if same:
            new = tuple(action for action in actions if action not in same.actions)
            found[found.index(same)] = replace(same, actions=same.actions + new)
        elif actions:
            found.append(replace(grant, actions=actions))
    return _with_own_sids(found)


def _is_said_elsewhere(action: str, place: int, given: Sequence[Grant]) -> bool:
    """Whether another statement allows the action on as much or more; of equals the first one."""
    grant = given[place]
    return any(
        action in other.actions
        and _takes_in(other, grant)
        and (at < place or not _takes_in(grant, other))
        for at, other in enumerate(given)
        if at != place
    )


def _takes_in(wide: Grant, narrow: Grant) -> bool:
    return (not wide.condition or wide.condition == narrow.condition) and all(
        any(_matches(pattern, resource) for pattern in wide.resources)
        for resource in narrow.resources
    )


def _matches(pattern: str, resource: str) -> bool:
    # A ? in the one could stand for a * in the other, which it does not take in.
    if "?" in pattern:
        return pattern == resource
    parts = re.split(r"(?<!\{)\*", pattern)  # `${*}` is a * that means itself
    return re.fullmatch(".*".join(map(re.escape, parts)), resource, re.DOTALL) is not None


def _is_about_the_same(one: Grant, other: Grant) -> bool:
    return (one.sid, set(one.resources), one.condition) == (
        other.sid,
        set(other.resources),
        other.condition,
    )


def _with_own_sids(grants: Sequence[Grant]) -> tuple[Grant, ...]:
    taken: set[str] = set()
    named: list[Grant] = []
    for grant in grants:
        sid, number = grant.sid, 2
        while sid in taken:
            sid, number = f"{grant.sid}{number}", number + 1
        taken.add(sid)
        named.append(replace(grant, sid=sid))
    return tuple(named)
