"""The audit of a trust policy: this repository gets in, and nobody else does."""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from backup.checks import Status
from backup.operations.auditing.identity import TITLES
from tests.audited_role import (
    GOOD,
    IDS,
    PLAIN,
    PROVIDER,
    PROVIDER_ARN,
    Audited,
    entrance,
)
from tests.audits import statuses
from tests.lab.aws import Ministack


@pytest.fixture
def audited(ministack: Ministack, monkeypatch: pytest.MonkeyPatch) -> Audited:
    return Audited(ministack, monkeypatch, f"writer-{secrets.token_hex(4)}")


def with_condition(*remove: str, **operators: Mapping[str, Any]) -> dict[str, Any]:
    """The good statement without some claims, and with other conditions (`__` for a colon)."""
    made = copy.deepcopy(GOOD)
    for claim in remove:
        del made["Condition"]["StringEquals"][f"{PROVIDER}:{claim}"]
    for name, keys in operators.items():
        named = {f"{PROVIDER}:{claim}": value for claim, value in keys.items()}
        made["Condition"].setdefault(name.replace("__", ":"), {}).update(named)
    return made


OPEN: list[tuple[str, list[dict[str, Any]], str]] = [
    ("every-repository", [entrance("repo:*", operator="StringLike")], "repo:*"),
    ("an-organisation", [entrance("repo:octo-org/*", operator="StringLike")], "repo:octo-org/*"),
    (
        "longer-names",
        [entrance("repo:octo-org/shop*", operator="StringLike")],
        "repo:octo-org/shop*",
    ),
    (
        "names-with-one-more-letter",
        [entrance("repo:octo-org/sho?:*", operator="StringLike")],
        "repo:octo-org/sho?:*",
    ),
    (
        "another-repository",
        [entrance(PLAIN, IDS, "repo:octo-org/blog:ref:refs/heads/main")],
        "repo:octo-org/blog",
    ),
    (
        "another-id",
        [entrance(PLAIN, "repo:octo-org@77/shop@1:ref:refs/heads/main")],
        "repo:octo-org@77/shop@1",
    ),
    ("no-sub", [with_condition("sub")], "no condition on sub"),
    (
        "for-all-values",
        [with_condition("sub", ForAllValues__StringLike={"sub": PLAIN})],
        "ForAllValues:StringLike is also true",
    ),
    (
        "if-exists",
        [with_condition("sub", StringEqualsIfExists={"sub": PLAIN})],
        "StringEqualsIfExists is also true",
    ),
    (
        "what-it-must-not-be",
        [with_condition("sub", StringNotLike={"sub": "repo:evil/*"})],
        "no condition on sub",
    ),
    ("a-second-statement", [GOOD, entrance("repo:*", operator="StringLike")], "repo:*"),
    ("anybody", [GOOD, GOOD | {"Principal": "*"}], "anybody"),
    ("anybody-of-aws", [GOOD, GOOD | {"Principal": {"AWS": "*"}}], "anybody"),
    (
        "an-account",
        [
            GOOD,
            {
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
                "Action": "sts:AssumeRole",
            },
        ],
        "arn:aws:iam::999999999999:root (AWS)",
    ),
    (
        "a-service",
        [
            GOOD,
            {
                "Effect": "Allow",
                "Principal": {"Service": "ec2.amazonaws.com"},
                "Action": "sts:Assume*",
            },
        ],
        "ec2.amazonaws.com (Service)",
    ),
    (
        "another-issuer",
        [GOOD, GOOD | {"Principal": {"Federated": PROVIDER_ARN.replace("github", "evil")}}],
        "evil",
    ),
]


@pytest.mark.parametrize(
    ("statements", "words"), [each[1:] for each in OPEN], ids=[each[0] for each in OPEN]
)
def test_a_trust_policy_that_lets_others_in_is_mended(
    audited: Audited, statements: list[dict[str, Any]], words: str
) -> None:
    audited.make(statements)
    audited.mended("identity.trust", Status.FAIL, words)
    found = audited.checks()
    assert list(TITLES) == statuses(found, Status.PASS), found


CLOSED: list[tuple[str, list[dict[str, Any]]]] = [
    ("any-branch", [entrance(*(f"{each[:-19]}*" for each in (PLAIN, IDS)), operator="StringLike")]),
    ("one-of-a-set", [entrance(PLAIN, IDS, operator="ForAnyValue:StringEquals")]),
    ("in-any-case", [entrance(PLAIN.replace("s", "S"), IDS, operator="StringEqualsIgnoreCase")]),
    ("a-wide-sub-and-the-repository", [with_condition("sub", StringLike={"sub": "repo:*"},
                                                      StringEquals={"repository_id": "4242"})]),
    ("a-sub-of-ones-own-and-the-repository", [with_condition("sub", StringEquals={
        "sub": "repository_id:4242:environment:x", "repository_id": "4242"})]),
    ("two-conditions-on-sub", [with_condition(StringLike={"sub": "repo:octo-org*"})]),
    ("itself-with-an-external-id", [GOOD, {"Effect": "Allow", "Principal": {"AWS": "{role}"},
                                           "Action": "sts:AssumeRole", "Condition": {
                                               "StringEquals": {"sts:ExternalId": "x"}}}]),
    ("a-denial", [GOOD, {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]),
]  # fmt: skip


@pytest.mark.parametrize(
    "statements", [each[1] for each in CLOSED], ids=[each[0] for each in CLOSED]
)
def test_a_trust_policy_that_lets_only_this_repository_in_passes(
    audited: Audited, statements: list[dict[str, Any]]
) -> None:
    audited.make(json.loads(json.dumps(statements).replace("{role}", audited.arn)))
    found = audited.checks()
    named = ("identity.trust", "identity.subject", "identity.audience")
    assert {Status.PASS} == {found[id].status for id in named}, found


HALF: list[tuple[str, list[str], str, Status]] = [
    ("by-name", [PLAIN], "by name and id", Status.WARN),
    ("by-id", [IDS], "not named by name:", Status.WARN),
    ("any-id", [PLAIN, "repo:octo-org@*/shop@*:ref:refs/heads/main"], "any id", Status.WARN),
    ("a-star-as-it-is", ["repo:octo-org/shop:*"], "cannot log in", Status.FAIL),
    ("neither", ["repo:octo-org/blog:ref:refs/heads/main"], "cannot log in", Status.FAIL),
]


@pytest.mark.parametrize(
    ("subjects", "words", "status"), [each[1:] for each in HALF], ids=[each[0] for each in HALF]
)
def test_a_repository_that_is_not_named_in_both_forms_is_mended(
    audited: Audited, subjects: list[str], words: str, status: Status
) -> None:
    literal = "shop:*" in subjects[0]  # StringEquals knows no wildcards
    audited.make([entrance(*subjects, operator="StringEquals" if literal else "StringLike")])
    audited.mended("identity.subject", status, words)


def test_a_mended_trust_policy_keeps_branches_environments_and_other_conditions(
    audited: Audited,
) -> None:
    environment = "repo:octo-org/shop:environment:production"
    loose = entrance(PLAIN, environment, "repo:octo-org/*", operator="StringLike")
    loose["Action"] = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
    loose["Condition"]["StringEquals"][f"{PROVIDER}:repository_owner_id"] = "77"
    only_from = {"IpAddressIfExists": {"aws:SourceIp": "192.0.2.0/24"}}
    loose["Condition"] |= only_from
    denial = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    audited.make([loose, denial])
    audited.mended("identity.trust", Status.FAIL)
    kept, still_denied = audited.trust()
    assert denial == still_denied
    assert loose["Action"] == kept["Action"]
    assert (
        only_from
        | {
            "StringEquals": {
                f"{PROVIDER}:aud": "sts.amazonaws.com",
                f"{PROVIDER}:repository_owner_id": "77",
                f"{PROVIDER}:sub": [
                    PLAIN,
                    IDS,
                    environment,
                    "repo:octo-org@77/shop@4242:environment:production",
                ],
            }
        }
        == kept["Condition"]
    )


def test_ids_that_the_runner_does_not_tell_are_left_open_in_the_fix(audited: Audited) -> None:
    audited.job = {"GITHUB_REPOSITORY": "octo-org/shop"}
    audited.make([entrance("repo:*", operator="StringLike")])
    audited.mended("identity.trust", Status.FAIL)
    (kept,) = audited.trust()
    subjects = kept["Condition"]["StringLike"][f"{PROVIDER}:sub"]
    assert [PLAIN, "repo:octo-org@*/shop@*:ref:refs/heads/main"] == subjects


@pytest.mark.parametrize(
    ("server", "issuer"),
    [
        ("https://github.example.org", "github.example.org/_services/token"),
        ("https://octo.ghe.com", "token.actions.octo.ghe.com"),
        ("https://github.com", f"{PROVIDER}/octo-enterprise"),
    ],
)
def test_tokens_of_another_github_are_known_by_its_issuer(
    audited: Audited, server: str, issuer: str
) -> None:
    audited.job["GITHUB_SERVER_URL"] = server
    audited.make(json.loads(json.dumps([GOOD]).replace(PROVIDER, issuer)))
    assert list(TITLES) == statuses(audited.checks(), Status.PASS)


def test_outside_of_a_workflow_nobody_knows_which_repository_is_meant(audited: Audited) -> None:
    audited.job = {}
    audited.make()
    found = audited.checks()
    unknown = ["identity.trust", "identity.subject", "identity.audience"]
    assert unknown == statuses(found, Status.UNKNOWN)
    assert "GITHUB_REPOSITORY" in found["identity.trust"].fix


def test_an_audience_that_the_action_does_not_ask_for_is_mended(audited: Audited) -> None:
    trust = copy.deepcopy(GOOD)
    trust["Condition"]["StringEquals"][f"{PROVIDER}:aud"] = "https://github.com/octo-org"
    audited.make([trust])
    audited.mended("identity.audience", Status.FAIL, "https://github.com/octo-org")


def test_an_audience_of_ones_own_is_fine_where_it_is_asked_for(audited: Audited) -> None:
    trust = copy.deepcopy(GOOD)
    trust["Condition"]["StringEquals"][f"{PROVIDER}:aud"] = "https://github.com/octo-org"
    audited.make([trust])
    found = audited.checks(audience="https://github.com/octo-org")
    assert Status.PASS == found["identity.audience"].status


@pytest.mark.parametrize(
    "trust", [with_condition("aud"), with_condition("aud", StringLike={"aud": "*"})]
)
def test_a_trust_policy_for_any_audience_is_mended(audited: Audited, trust: dict[str, Any]) -> None:
    audited.make([trust])
    audited.mended("identity.audience", Status.WARN, "aud is not asked for")
