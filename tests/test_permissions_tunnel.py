"""A tunnel takes one permission on top: to read its key, or to send one to the SSH server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from backup.aws.grants import PolicyScope
from tests.lab.aws import REGION
from tests.lab.cloud import Cloud, source_inputs
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, run_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sshd import Sshd, sshd_is_missing
from tests.lab.sts import ACCOUNT
from tests.permissions import SCOPE, Removal, assert_refused, policy
from tests.steps import database_named, forget, green
from tests.tunnels import INSTANCE, keep_secret

pytestmark = pytest.mark.skipif(bool(sshd_is_missing()), reason=sshd_is_missing())
BASTION = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{INSTANCE}"


@dataclass(frozen=True)
class Way:
    """A database behind an SSH server, and a role that may do what a policy says."""

    cloud: Cloud
    aws: ScriptedAws
    server: PostgresServer
    sshd: Sshd

    def back_up(
        self, scope: PolicyScope, without: Removal | None = None, **inputs: str
    ) -> ActionRun:
        statements = policy("backup", replace(scope, bucket=self.cloud.bucket), without)
        self.cloud.allow(*statements)
        self.aws.allow_only(statements)
        given = {name.replace("_", "-"): text for name, text in inputs.items()}
        source = source_inputs(self.server, "behind") | self.sshd.inputs
        env = {
            "AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": self.aws.url,
            "PG_BACKUP_CLIENTS": str(self.server.binaries),
        }
        return run_action(self.cloud.inputs | source | given, self.cloud.env | env)


@pytest.fixture
def way(cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer) -> Iterator[Way]:
    database_named(postgres, "behind", "CREATE TABLE basket AS SELECT 1 AS id")
    with Sshd() as sshd:
        yield Way(cloud, scripted, postgres, sshd)
    forget(postgres, "behind")


def test_a_key_of_secrets_manager_is_read_with_the_permission_for_it(way: Way) -> None:
    name = keep_secret(way.cloud, way.sshd.key.private)
    told = way.cloud.double.client("secretsmanager").describe_secret(SecretId=name)
    scope = replace(SCOPE, tunnel_secret_arn=told["ARN"])
    removal = Removal("ReadTunnelKey", "secretsmanager:GetSecretValue")

    assert_refused(way.back_up(scope, removal, tunnel_secret_id=name), removal)
    green(way.back_up(scope, tunnel_secret_id=name))


def test_a_key_is_sent_to_an_instance_with_the_permission_for_it(way: Way) -> None:
    way.aws.network.let_in = lambda pushed: way.sshd.authorize(pushed.public_key)
    scope = replace(SCOPE, bastion_arn=BASTION, bastion_user=way.sshd.user)
    removal = Removal("OpenTunnel", "ec2-instance-connect:SendSSHPublicKey")

    assert_refused(way.back_up(scope, removal, tunnel_instance_id=INSTANCE), removal)
    another = replace(scope, bastion_user="somebody")
    assert_refused(way.back_up(another, tunnel_instance_id=INSTANCE), removal)
    green(way.back_up(scope, tunnel_instance_id=INSTANCE))
