"""What stands in for the world: an empty AWS account, GitHub with its tokens, a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from backup.wording import count
from demo.by_hand import DemoError
from tests.lab.aws import Ministack
from tests.lab.github_api import GitHub, github
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer, installed
from tests.lab.stacks import administrator
from tests.lab.sts import Sts

# Loads faster, and means nothing for a server that is thrown away.
SETTINGS = {"full_page_writes": "off", "max_wal_size": "4GB", "shared_buffers": "256MB"}
# As tokens of repositories have it that were made or renamed since July 2026.
WITH_IDS = "octo-org@583231/shop@1296269"


@dataclass(frozen=True)
class World:
    """`job` is what the runner, and its endpoints, give every step; `shell` is the terminal of
    an administrator, of the account and of the database."""

    double: Ministack
    issuer: Issuer
    hub: GitHub
    source: PostgresServer
    job: Mapping[str, str]
    shell: Mapping[str, str]


def begin(undo: ExitStack) -> World:
    majors = installed()
    # 17 comes as a wheel with TLS and zstd; of others that may be here not all have both.
    major = 17 if 17 in majors else max(majors, default=0)
    if not major:
        raise DemoError("no PostgreSQL is installed, neither in the system nor as a wheel")
    source = undo.enter_context(
        PostgresServer(majors[major], SETTINGS, tls_only=True, certificate_days=400)
    )
    double = undo.enter_context(Ministack())
    issuer = undo.enter_context(Issuer(subject=f"repo:{WITH_IDS}:ref:refs/heads/main"))
    hub = undo.enter_context(github())
    # The signature of a token is checked here; what the role's trust policy says, by the double.
    sts = undo.enter_context(Sts(issuer.jwks_url, double.url, trust=None))
    assert source.certificates is not None
    roots = {"PGSSLROOTCERT": str(source.certificates.authority)}
    job = {
        **issuer.env,
        **hub.env,
        **roots,
        "AWS_ENDPOINT_URL": double.url,
        "AWS_ENDPOINT_URL_STS": sts.url,
        # The image has its clients in /usr/lib/postgresql, this machine may have them elsewhere.
        "PG_BACKUP_CLIENTS": str(majors[major]),
    }
    of_account = administrator(double)
    path = f"{majors[major]}:{of_account['PATH']}"
    shell = {**source.psql_env, **of_account, **roots, "PATH": path}
    return World(double, issuer, hub, source, job, shell)


def bill(double: Ministack, regions: Sequence[str]) -> list[str]:
    """What the stacks cost a month without a single backup in them, by AWS's list prices.

    https://aws.amazon.com/kms/pricing/, https://aws.amazon.com/cloudwatch/pricing/ and
    https://aws.amazon.com/secrets-manager/pricing/, us-east-1.
    """
    kinds: list[str] = []
    for region in regions:
        cloudformation = double.client("cloudformation", region=region)
        for stack in cloudformation.describe_stacks()["Stacks"]:
            pages = cloudformation.get_paginator("list_stack_resources").paginate(
                StackName=stack["StackName"]
            )
            kinds += [
                each["ResourceType"] for page in pages for each in page["StackResourceSummaries"]
            ]
    prices = {
        "AWS::KMS::Key": ("KMS key", 1.0),
        "AWS::CloudWatch::Alarm": ("alarm", 0.10),
        "AWS::SecretsManager::Secret": ("secret", 0.40),
    }
    lines = [
        f"{count(kinds.count(kind), name)}: {kinds.count(kind) * price:.2f} USD"
        for kind, (name, price) in prices.items()
        if kind in kinds
    ]
    total = sum(kinds.count(kind) * price for kind, (_, price) in prices.items())
    return [f"{len(kinds)} resources", *lines, f"about {total:.0f} USD a month, before any backup"]
