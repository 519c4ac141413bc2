"""The trust policy that `operation: policy` prints: one repository at one place, in both forms."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.lab.sts import ACCOUNT
from tests.policies import IDS, PROVIDER, ROLE, printed, run
from tests.steps import green


def test_a_run_of_a_repository_is_trusted_by_both_forms_of_its_name() -> None:
    assert [
        {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{PROVIDER}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    f"{PROVIDER}:aud": "sts.amazonaws.com",
                    f"{PROVIDER}:sub": [
                        "repo:octo-org/shop:ref:refs/heads/main",
                        "repo:octo-org@77/shop@4242:ref:refs/heads/main",
                    ],
                }
            },
        }
    ] == printed("trust-policy")["Statement"]


def subjects(env: Mapping[str, str] | None = None, **inputs: str) -> list[str]:
    (statement,) = printed("trust-policy", env, **inputs)["Statement"]
    assert ["StringEquals"] == list(statement["Condition"])
    return list(statement["Condition"]["StringEquals"][f"{PROVIDER}:sub"])


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ("ref:refs/tags/v1.4.2", "ref:refs/tags/v1.4.2"),
        ("environment:production", "environment:production"),
        ("environment:Production EU", "environment:Production EU"),
        ("environment:production:eu", "environment:production%3Aeu"),
        ("environment:${aws:username}", "environment:${$}{aws%3Ausername}"),
        ("ref:refs/heads/${x}", "ref:refs/heads/${$}{x}"),
    ],
)
def test_the_subject_is_the_one_that_was_named(given: str, end: str) -> None:
    assert [f"repo:octo-org/shop:{end}", f"repo:octo-org@77/shop@4242:{end}"] == subjects(
        trusted_subject=given
    )


def test_pull_requests_are_not_trusted_since_nobody_has_reviewed_them() -> None:
    refused = run(trusted_subject="pull_request")
    assert 2 == refused.exit_code
    assert "nobody has reviewed" in refused.output
    assert "trust-policy" not in refused.outputs


def test_another_repository_is_trusted_with_the_ids_that_are_given() -> None:
    assert ["repo:acme/web:ref:refs/heads/main", "repo:acme@1/web@2:ref:refs/heads/main"] == (
        subjects(trusted_repository="acme@1/web@2")
    )


@pytest.mark.parametrize(
    ("env", "inputs", "name"),
    [
        (None, {"trusted_repository": "acme/web"}, "acme/web"),
        ({"GITHUB_REPOSITORY_ID": "4242"}, {}, "octo-org/shop"),
    ],
    ids=["another", "own"],
)
def test_a_repository_without_its_ids_is_trusted_by_name_and_never_by_a_wildcard(
    env: dict[str, str] | None, inputs: dict[str, str], name: str
) -> None:
    done = green(run(env, **inputs))
    (statement,) = json.loads(done.outputs["trust-policy"])["Statement"]
    sub = statement["Condition"]["StringEquals"][f"{PROVIDER}:sub"]
    assert [f"repo:{name}:ref:refs/heads/main"] == sub
    (warning,) = done.warnings
    assert f"gh api repos/{name}" in warning.message


@pytest.mark.parametrize(
    ("server", "issuer"),
    [
        ("https://github.com", PROVIDER),
        ("https://acme.ghe.com", "token.actions.acme.ghe.com"),
        ("https://git.acme.example", "git.acme.example/_services/token"),
    ],
)
def test_the_issuer_is_that_of_the_github_at_hand(server: str, issuer: str) -> None:
    (statement,) = printed("trust-policy", IDS | {"GITHUB_SERVER_URL": server})["Statement"]
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}"
    assert {"Federated": provider} == statement["Principal"]
    assert {f"{issuer}:aud", f"{issuer}:sub"} == set(statement["Condition"]["StringEquals"])


def test_audience_and_external_id_are_asked_for() -> None:
    first, again = printed("trust-policy", audience="acme", role_external_id="x-1")["Statement"]
    assert "acme" == first["Condition"]["StringEquals"][f"{PROVIDER}:aud"]
    assert {"AWS": ROLE} == again["Principal"]
    assert {"StringEquals": {"sts:ExternalId": "x-1"}} == again["Condition"]
