"""The roles of github-oidc.yaml: what the code needs, no more, and the doors of one repository."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from backup.aws.policy_document import MOST_INLINE, document, length
from tests.lab.sts import ACCOUNT
from tests.lab.templates import TemplateError, read_template
from tests.oidc_template import (
    EVERYTHING,
    KEY,
    NEEDED,
    ROLES,
    allowed,
    denied,
    listed,
    permissions,
    roles_template,
    statements_of,
    wanted,
)
from tests.permissions import ABOUT_ALL

PROVIDER = "token.actions.githubusercontent.com"
IDS = {"RepositoryIds": "acme@77/shop@4242"}
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role"
INSTANCE, CLUSTER = {"DbInstance": "shop"}, {"DbCluster": "shop"}
FORMS = {
    "least": INSTANCE,
    "key": {"KmsKeyArn": KEY, **INSTANCE},
    "replica": {"ReplicaBucket": "replica-of-acme", **INSTANCE},
    "untold": {"CloudwatchNamespace": "", **INSTANCE},
    "copies": {"CopyRegion": "eu-west-1", **INSTANCE},
    "vault": {"BackupVault": "v1", "BackupServiceRoleArn": f"{ROLE_ARN}/x", **INSTANCE},
    "everything": {**EVERYTHING, **INSTANCE},
    "everything-of-a-cluster": {**EVERYTHING, **CLUSTER},
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_role_may_do_what_its_operations_need_and_no_more(
    role: str, form: dict[str, str]
) -> None:
    template = roles_template(**form)
    assert wanted(role, {**NEEDED, **form}) == permissions(allowed(template, role))


@pytest.mark.parametrize("role", ROLES)
def test_instance_and_cluster_together_are_both_allowed(role: str) -> None:
    both = roles_template(**EVERYTHING, **INSTANCE, **CLUSTER)
    apart = [wanted(role, {**EVERYTHING, **of}) for of in (INSTANCE, CLUSTER)]
    together = set().union(*apart)
    assert together == permissions(allowed(both, role))


def test_without_instance_and_cluster_there_is_no_operator() -> None:
    template = roles_template()
    assert {"pg-backup-writer", "pg-backup-restorer", "pg-backup-auditor"} == {
        each["RoleName"] for each in template.of_type("AWS::IAM::Role").values()
    }
    assert "OperatorRole" not in template.outputs


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_no_role_may_delete_or_change_what_protects_backups(form: dict[str, str]) -> None:
    template = roles_template(**form)
    for role in ROLES:
        actions = {action for action, _, _ in permissions(allowed(template, role))}
        forbidden = re.compile(
            r".*\*|s3:(Delete|Bypass|PutBucket|PutLifecycle|PutReplication|PutEncryption).*"
            r"|kms:(Schedule|Disable|Put).*|iam:(?!GetRole$|Simulate|PassRole$).*"
            r"|rds:Delete(?!DB(Cluster)?Snapshot$).*|s3:PutObjectVersionTagging"
        )
        assert [] == [action for action in actions if forbidden.fullmatch(action)]


def test_the_writer_reads_no_object() -> None:
    actions = {
        a for a, _, _ in permissions(allowed(roles_template(**FORMS["everything"]), "Writer"))
    }
    reading = {"s3:GetObject", "s3:GetObjectVersion", "s3:RestoreObject", "s3:GetObjectTagging"}
    assert set() == actions & reading


def test_the_writer_can_tag_only_what_has_no_tier() -> None:
    (tagging,) = [
        each
        for each in allowed(roles_template(), "Writer")
        if "s3:PutObjectTagging" in listed(each["Action"])
    ]
    assert {"Null": {"s3:ExistingObjectTag/retention-tier": "true"}} == tagging["Condition"]


@pytest.mark.parametrize("server", [{"DbInstance": "i" * 63}, {"DbCluster": "c" * 63}], ids=str)
def test_with_the_longest_names_iam_takes_the_policies_of_every_role(
    server: dict[str, str],
) -> None:
    """Of one server; beyond that, the parameter says to make a stack of its own."""
    long = {"Bucket": "b" * 63, "ReplicaBucket": "r" * 63, "Prefix": "p" * 64}
    template = roles_template(**EVERYTHING | server | long)
    for role in ROLES:
        assert length(document(statements_of(template, role))) < MOST_INLINE, role


def test_the_auditor_reads_no_archive() -> None:
    places = {
        resource.removeprefix("arn:aws:s3:::backups-of-acme/postgresql/")
        for action, resource, _ in permissions(allowed(roles_template(), "Auditor"))
        if action == "s3:GetObject"
    }
    assert {"*/manifest.json", "*/drills/*", "rds/*/restores/*"} == places


def test_the_restorer_writes_results_of_drills_alone() -> None:
    written = {
        (action, resource)
        for action, resource, _ in permissions(allowed(roles_template(), "Restorer"))
        if action.startswith(("s3:Put", "s3:Abort"))
    }
    assert {("s3:PutObject", "arn:aws:s3:::backups-of-acme/postgresql/*/drills/*")} == written


def test_the_operator_is_bound_by_name_and_tag() -> None:
    template = roles_template(**FORMS["everything"])
    bound = {
        "rds:ModifyDBInstance": "restored-from",
        "rds:DeleteDBSnapshot": "created-by",
    }
    for action, resource, condition in permissions(allowed(template, "Operator")):
        if action in bound:
            assert f"aws:ResourceTag/pg-backup-action:{bound[action]}" in condition
        if action in ("rds:ModifyDBInstance", "rds:RestoreDBInstanceFromDBSnapshot"):
            assert ":db:" not in resource or resource.endswith(":db:shop*")
        if action == "iam:PassRole":
            assert "iam:PassedToService" in condition


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_only_what_knows_no_resources_is_allowed_on_all(role: str, form: dict[str, str]) -> None:
    given = permissions(allowed(roles_template(**form), role))
    assert {action for action, resource, _ in given if resource == "*"} <= ABOUT_ALL
    assert [] == [resource for _, resource, _ in given if resource.startswith("arn:aws:s3:::*")]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_deletes_or_writes_over_whatever_else_is_attached(role: str) -> None:
    template = roles_template(**INSTANCE)
    never = {each["Sid"]: each for each in denied(template, role)}
    assert {"NeverDelete", "NeverWriteOver"} == set(never)
    assert {"arn:aws:s3:::backups-of-acme/*"} == {each["Resource"] for each in never.values()}
    assert {"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"} == set(
        never["NeverDelete"]["Action"]
    )
    condition = never["NeverWriteOver"]["Condition"]
    assert {
        "Null": {"s3:if-none-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},
    } == condition


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("ids", [{}, IDS], ids=["name", "name-and-ids"])
def test_a_role_trusts_one_repository_at_one_place(role: str, ids: dict[str, str]) -> None:
    statements = trust(roles_template(**ids, **INSTANCE), role)
    end = "environment:production" if role == "Operator" else "ref:refs/heads/main"
    heads = ["repo:acme/shop", *(f"repo:{each}" for each in ids.values())]
    assert [
        {
            "Effect": "Allow",
            "Principal": {"Federated": "<Provider>"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    f"{PROVIDER}:aud": "sts.amazonaws.com",
                    f"{PROVIDER}:sub": [f"{head}:{end}" for head in heads],
                }
            },
        }
    ] == statements


def test_each_role_can_have_a_subject_of_its_own() -> None:
    own = {
        "TrustedSubject": "ref:refs/heads/trunk",
        "RestorerSubject": "environment:Restore in %3A eu",
        "OperatorSubject": "environment:operations",
        "AuditorSubject": "ref:refs/heads/audit",
    }
    template = roles_template(**own, **IDS, **INSTANCE)
    ends = dict(zip(("Writer", "Restorer", "Operator", "Auditor"), own.values(), strict=True))
    for role, end in ends.items():
        (statement,) = trust(template, role)
        subjects = statement["Condition"]["StringEquals"][f"{PROVIDER}:sub"]
        assert [f"repo:acme/shop:{end}", f"repo:acme@77/shop@4242:{end}"] == subjects


@pytest.mark.parametrize(
    "parameters",
    [
        {"Repository": "acme/*"},
        {"Repository": "acme"},
        {"Repository": "acme/shop:ref:refs/heads/main"},
        {"Repository": "acme/shop@1"},
        {"RepositoryIds": "acme@*/shop@*"},
        {"RepositoryIds": "acme/shop"},
        {"TrustedSubject": "*"},
        {"TrustedSubject": "ref:refs/heads/*"},
        {"TrustedSubject": "pull_request"},
        {"TrustedSubject": "environment:${aws:username}"},
        {"TrustedSubject": "environment:eu:production"},
        {"TrustedSubject": "environment: production"},
        {"OperatorSubject": ""},
        {"OidcProviderArn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/evil.example"},
        {"Bucket": "*"},
        {"Prefix": "*"},
        {"Prefix": ""},
        {"KmsKeyArn": "*"},
        {"DbInstance": "*"},
        {"CloudwatchNamespace": "*"},
    ],
    ids=str,
)
def test_a_parameter_that_would_open_a_role_wider_is_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(TemplateError):
        roles_template(**parameters)


def test_the_accounts_own_provider_is_used_where_it_is_named() -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{PROVIDER}"
    template = roles_template(OidcProviderArn=arn)
    assert {} == template.of_type("AWS::IAM::OIDCProvider")
    assert {arn} == {
        statement["Principal"]["Federated"]
        for role in ("Writer", "Restorer", "Auditor")
        for statement in trust(template, role)
    }


def test_the_provider_takes_tokens_that_were_made_for_aws_alone() -> None:
    (provider,) = roles_template().of_type("AWS::IAM::OIDCProvider").values()
    assert {"Url": f"https://{PROVIDER}", "ClientIdList": ["sts.amazonaws.com"]} == provider


@pytest.mark.parametrize("role", ROLES)
def test_sessions_are_short_and_a_boundary_is_taken(role: str) -> None:
    usual = roles_template(**INSTANCE).properties(role)
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    bounded = roles_template(**INSTANCE, PermissionsBoundaryArn=boundary).properties(role)
    assert (3600, False) == (int(usual["MaxSessionDuration"]), "PermissionsBoundary" in usual)
    assert boundary == bounded["PermissionsBoundary"]


@pytest.mark.parametrize("role", ROLES)
def test_the_policies_of_a_role_are_short_enough_for_iam(role: str) -> None:
    template = roles_template(**EVERYTHING, **INSTANCE, **CLUSTER)
    assert length(document(statements_of(template, role))) <= MOST_INLINE


def test_every_statement_has_a_sid_of_its_own() -> None:
    template = roles_template(**EVERYTHING, **INSTANCE, **CLUSTER)
    found = [
        *template.of_type("AWS::IAM::Policy").values(),
        *(p for role in ROLES for p in template.properties(role)["Policies"]),
    ]
    for policy in found:
        sids = [each["Sid"] for each in policy["PolicyDocument"]["Statement"]]
        assert sorted(set(sids)) == sorted(sids)


def test_the_outputs_are_inputs_of_the_action() -> None:
    outputs = read_template("github-oidc")["Outputs"]
    assert {"role-to-assume"} == {each["Description"].split(":")[0] for each in outputs.values()}
    values = roles_template(**INSTANCE).outputs
    names = ("writer", "restorer", "auditor", "operator")
    assert {
        f"{name.title()}Role": f"arn:aws:iam::{ACCOUNT}:role/pg-backup-{name}" for name in names
    } == values


def trust(template: Any, role: str) -> list[dict[str, Any]]:
    policy = template.properties(role)["AssumeRolePolicyDocument"]
    assert "2012-10-17" == policy["Version"]
    statements: list[dict[str, Any]] = json.loads(json.dumps(policy["Statement"]))
    return statements
