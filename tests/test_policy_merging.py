"""Several operations in one policy: nothing is said twice, nothing is lost, nothing is added."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from backup.aws.grants import Grant, needed
from backup.aws.policy_document import merged
from backup.options import OPERATIONS
from tests.lab.aws import REGION
from tests.oidc_template import permissions
from tests.policies import KEY, SCOPE, SECRET, SERVICE_ROLE


def together(operations: list[str]) -> set[Any]:
    grants = [grant for name in operations for grant in needed(name, BUSY)]
    return permissions(each.statement() for each in grants)


BUSY = replace(SCOPE, kms_key_arn=KEY, tags_objects=True, thaws=True, instance="shop",
               secret_arn=SECRET, service_role=SERVICE_ROLE, topic_arn="arn:topic",
               namespace="PgBackup", remembers_outcomes=True)  # fmt: skip


@pytest.mark.parametrize("pair", list(combinations(OPERATIONS, 2)), ids="+".join)
def test_merging_neither_adds_nor_takes_away(pair: tuple[str, str]) -> None:
    grants = [grant for name in pair for grant in needed(name, BUSY)]
    found = merged(grants)
    sids = [each.sid for each in found]
    assert sorted(set(sids)) == sorted(sids)
    after = permissions(each.statement() for each in found)
    before = together(list(pair))
    assert after <= before
    # What was left out is said by something wider.
    for action, resource, condition in before - after:
        assert any(
            (action, condition in (other, condition)) == (act, True)
            and other in ("{}", condition)
            and re.fullmatch(".*".join(map(re.escape, wide.split("*"))), resource)
            for act, wide, other in after
        ), (action, resource)
    assert found == merged(found)


def test_statements_of_one_name_and_different_resources_get_names_of_their_own() -> None:
    given = [Grant("Keep", ("s3:PutObject",), (f"arn:aws:s3:::{name}/*",)) for name in "abc"]
    assert ["Keep", "Keep2", "Keep3"] == [each.sid for each in merged(given)]


def test_a_pattern_that_may_stand_for_more_is_not_taken_for_the_narrower_one() -> None:
    given = [
        Grant("One", ("s3:GetObject",), ("arn:aws:s3:::a?c",)),
        Grant("Other", ("s3:GetObject",), ("arn:aws:s3:::a*c",)),
    ]
    assert [("arn:aws:s3:::a*c",)] == [each.resources for each in merged(given)]


def test_a_condition_is_not_lost_behind_the_same_resource() -> None:
    bound = {"StringEquals": {"kms:ViaService": f"rds.{REGION}.amazonaws.com"}}
    given = [Grant("Bound", ("kms:Decrypt",), (KEY,), bound), Grant("Free", ("kms:Sign",), (KEY,))]
    assert tuple(given) == merged(given)
