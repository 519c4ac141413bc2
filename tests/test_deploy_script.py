"""examples/infrastructure/deploy.sh where `make demo-aws` does not go."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from demo.aws.workflows import read_workflows
from tests.lab.aws import Ministack
from tests.lab.issuer import GITHUB_ISSUER
from tests.lab.stacks import INFRASTRUCTURE, administrator
from tests.lab.sts import ACCOUNT

GIVEN = ("--repository", "octo-org/shop", "--region", "eu-central-1")


@pytest.fixture(scope="module")
def account() -> Iterator[Ministack]:
    with Ministack() as double:
        yield double


def run(account: Ministack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INFRASTRUCTURE / "deploy.sh", *arguments],
        env=administrator(account),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def roles(account: Ministack) -> tuple[dict[str, str], set[str]]:
    """The parameters of the stack of the roles, and the types of its resources."""
    cloudformation: Any = account.client("cloudformation")
    [stack] = cloudformation.describe_stacks(StackName="pg-backup-roles")["Stacks"]
    held = cloudformation.list_stack_resources(StackName="pg-backup-roles")
    return (
        {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]},
        {each["ResourceType"] for each in held["StackResourceSummaries"]},
    )


def test_a_provider_that_another_made_is_used_and_its_second_database_refused(
    account: Ministack,
) -> None:
    account.client("iam").create_open_id_connect_provider(
        Url=GITHUB_ISSUER, ClientIDList=["sts.amazonaws.com"]
    )

    first = run(
        account, *GIVEN, "--database", "shop", "--host", "db.example.org",
        "--subject", "environment:backup",
    )  # fmt: skip

    assert 0 == first.returncode, first.stderr
    parameters, kinds = roles(account)
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
    assert provider == parameters["OidcProviderArn"]
    assert "AWS::IAM::OIDCProvider" not in kinds
    # Without --login the password is GitHub's to keep.
    workflows = read_workflows(
        first.stdout, {"secrets.BACKUP_PASSWORD": "a password", "github.token": "a token"}
    )
    assert ["backup", "drill", "audit"] == list(workflows)
    backup = workflows["backup"].inputs
    assert ("db.example.org", "shop", "a password") == (
        backup["host"],
        backup["database"],
        backup["password"],
    )
    # As database-access.sql makes it: PostgreSQL keeps names that begin with pg_ for itself.
    assert "backup" == backup["user"]
    assert all("    environment: backup\n" in each.text for each in workflows.values())

    second = run(account, *GIVEN, "--database", "crm")

    assert (2, "") == (second.returncode, second.stdout)
    assert "the roles of pg-backup-roles are for another database" in second.stderr
    assert parameters == roles(account)[0]


def test_a_lock_is_the_replicas_too_and_a_name_of_digits_stays_a_name() -> None:
    """S3 refuses to replicate a bucket with Object Lock to one without."""
    region = ("--replica-region", "eu-west-1")
    with Ministack() as account:
        ran = run(account, *GIVEN, "--database", "007", "--lock-days", "20", *region)

        assert 0 == ran.returncode, ran.stderr
        cloudformation: Any = account.client("cloudformation", region="eu-west-1")
        [stack] = cloudformation.describe_stacks(StackName="pg-backup-replica")["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert ("GOVERNANCE", "20") == (given["ObjectLockMode"], given["ObjectLockDays"])
    assert 2 == ran.stdout.count("          database: '007'\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--database", "shop"], "--repository is missing"),
        (["--repository", "octo-org/shop"], "--database is missing"),
        ([*GIVEN, "--database"], "--database needs a value"),
        ([*GIVEN, "--data-base", "shop"], "what is --data-base?"),
        ([*GIVEN, "--database", "shop", "--login", "iam"], "--login needs --host"),
        (
            [*GIVEN, "--database", "shop", "--replica-region", "eu-central-1"],
            "another region than eu-central-1",
        ),
    ],
)
def test_what_it_cannot_go_by_is_said_before_anything_is_made(
    account: Ministack, arguments: list[str], told: str
) -> None:
    ran = run(account, *arguments)

    assert (2, "") == (ran.returncode, ran.stdout)
    assert told in ran.stderr
    assert "$ aws" not in ran.stderr


def test_a_stack_that_fails_ends_it_with_the_reason(account: Ministack) -> None:
    ran = run(account, *GIVEN, "--database", "shop", "--bucket", "NO", "--name", "other")

    assert 0 != ran.returncode
    assert "" == ran.stdout
    assert "Bucket" in ran.stderr
    assert "other-storage was not deployed" in ran.stderr


def test_each_template_is_small_enough_for_a_deploy_without_a_bucket() -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
    sizes = {path.name: path.stat().st_size for path in INFRASTRUCTURE.glob("*.yaml")}

    assert {} == {name: size for name, size in sizes.items() if size > 51_200}
    assert len(sizes) >= 7
