"""The AWS session against a strict STS: who we become, for how long, and what a refusal says."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from backup.aws.rds import is_rds_host, login_token
from backup.aws.secrets import read_database_secret
from backup.aws.session import AwsSession, open_session
from backup.errors import AccessError, InputError
from backup.settings import RoleSettings
from tests.lab.aws import REGION, Ministack
from tests.lab.faults import FaultProxy
from tests.lab.httpd import HttpService, Response, answering
from tests.lab.issuer import Issuer
from tests.lab.sts import ACCOUNT, ROLE, Refusal, Sts

BUCKET = "backups"
EXTERNAL_ID = "shop-7f3a"
STATEMENTS = [
    {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
    {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE},
]
ROLE_SETTINGS = RoleSettings(
    region=REGION,
    arn=ROLE,
    session_name="pg-backup-action",
    duration_seconds=3600,
    audience="sts.amazonaws.com",
    external_id=None,
    allowed_account_ids=(),
)
AMBIENT = replace(ROLE_SETTINGS, arn=None)


ASKING = replace(AMBIENT, allowed_account_ids=(ACCOUNT,))


def arn_of(session: AwsSession) -> str | None:
    return session.identity.arn if session.identity else None


@dataclass
class Lab:
    """The issuer, the checking STS before ministack, and every secret that was masked."""

    issuer: Issuer
    sts: Sts
    cloud: Ministack
    masked: list[str]

    def open(
        self, role: RoleSettings = ROLE_SETTINGS, load: Callable[[], str] | None = None
    ) -> AwsSession:
        return open_session(role, load or self.issuer.token, self.masked.append)

    def refused(self, role: RoleSettings = ROLE_SETTINGS) -> AccessError:
        with pytest.raises(AccessError) as caught:
            self.open(role)
        return caught.value


@pytest.fixture(scope="module")
def cloud() -> Iterator[Ministack]:
    with Ministack() as double:
        double.make_bucket(BUCKET)
        yield double


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")


@pytest.fixture
def lab(cloud: Ministack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    cloud.make_role(STATEMENTS)
    with Issuer() as issuer, Sts(issuer.jwks_url, cloud.url) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        yield Lab(issuer, sts, cloud, [])


@pytest.mark.parametrize("role", [ROLE_SETTINGS, ASKING], ids=["id token", "keys"])
def test_a_region_that_swallows_what_it_is_sent_does_not_hold_the_login_up(
    lab: Lab, role: RoleSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is refused there: a connection is begun, and never made."""
    with socket.socket() as lost, ExitStack() as waiting:
        lost.bind(("127.0.0.1", 0))
        lost.listen(0)
        for _ in range(2):  # what the kernel takes by itself; the next one gets no answer
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(lost.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{lost.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not one")
        monkeypatch.setattr("backup.aws.session._CONNECT_SECONDS", 1)
        began = time.monotonic()

        error = lab.refused(role)

    assert error.is_out_of_reach
    assert 0.9 < time.monotonic() - began < 15  # botocore would wait 60


def test_the_id_token_becomes_a_session_of_the_role_in_its_account(lab: Lab) -> None:
    session = lab.open()

    assert ACCOUNT == session.account
    assert f"arn:aws:sts::{ACCOUNT}:assumed-role/pg-backup/pg-backup-action" == arn_of(session)
    assert REGION == session.region
    session.client("s3").list_objects_v2(Bucket=BUCKET)


def test_a_session_outlives_its_keys_many_times_with_a_fresh_id_token_for_each(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.sts.lifetime = 60  # well inside the 10 minutes in which botocore insists on new keys
    tokens: list[str] = []

    def load() -> str:
        tokens.append(lab.issuer.token())
        return tokens[-1]

    with FaultProxy(lab.cloud.url, is_expired=lab.sts.is_expired) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        s3 = lab.open(load=load).client("s3")
        for _ in range(4):
            lab.sts.expire_sessions()
            s3.list_objects_v2(Bucket=BUCKET)
        keys = {record.headers["authorization"].split("/")[0] for record in proxy.records}

    assert 4 == len(keys)
    assert len(lab.sts.exchanges) == len(set(tokens))
    assert {exchange.access_key for exchange in lab.sts.exchanges} <= set(lab.masked)


def test_many_threads_share_one_renewal(lab: Lab) -> None:
    s3 = lab.open().client("s3")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: s3.list_objects_v2(Bucket=BUCKET), range(16)))

    assert 1 == len(lab.sts.exchanges)


def test_the_token_and_all_three_keys_are_masked_before_their_first_use(lab: Lab) -> None:
    lab.open()

    assert 4 == len(lab.masked)
    assert lab.masked[0].startswith("eyJ")
    assert lab.sts.exchanges[0].access_key == lab.masked[1]


def test_a_trust_policy_for_another_branch_is_answered_with_the_statement_to_paste(
    lab: Lab,
) -> None:
    lab.issuer.subject = "repo:octo-org/shop:ref:refs/heads/feature"

    error = lab.refused()

    assert 3 == error.exit_code
    assert f"cannot assume {ROLE} with the id token" == error.message
    assert (
        "the id token says sub=repo:octo-org/shop:ref:refs/heads/feature, "
        "aud=sts.amazonaws.com, iss=https://token.actions.githubusercontent.com"
    ) in error.detail
    statement = json.loads(error.hint[error.hint.index("{") : error.hint.rindex("}") + 1])
    subjects = statement["Condition"]["StringLike"]["token.actions.githubusercontent.com:sub"]
    assert [
        "repo:octo-org/shop:ref:refs/heads/feature",
        "repo:octo-org@*/shop@*:ref:refs/heads/feature",
    ] == subjects


def test_a_subject_with_numeric_ids_is_shown_in_both_forms_with_its_own_ids(lab: Lab) -> None:
    lab.issuer.subject = "repo:octo-org@42/shop@4711:environment:production"

    hint = lab.refused().hint

    assert '"repo:octo-org/shop:environment:production"' in hint
    assert '"repo:octo-org@42/shop@4711:environment:production"' in hint
    assert '"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"' in hint
    assert "StringLike" not in hint


def test_a_refused_token_is_never_shown(lab: Lab) -> None:
    lab.issuer.subject = "repo:octo-org/other:ref:refs/heads/main"

    error = lab.refused()

    shown = "\n".join([*error.lines(), str(error.__cause__), repr(error.__cause__)])
    assert lab.masked[0] not in shown
    assert lab.masked[0].split(".")[2] not in shown


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        (
            Refusal(
                400,
                "InvalidIdentityToken",
                "No OpenIDConnect provider found in your account for "
                "https://token.actions.githubusercontent.com",
            ),
            "aws iam create-open-id-connect-provider "
            "--url https://token.actions.githubusercontent.com --client-id-list sts.amazonaws.com",
        ),
        (
            Refusal(400, "InvalidIdentityToken", "Incorrect token audience"),
            "aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn "
            f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com "
            "--client-id sts.amazonaws.com",
        ),
        (
            Refusal(
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            ),
            "role-duration-seconds: 3600",
        ),
        (Refusal(400, "ExpiredTokenException", "Token expired"), "check this machine's clock"),
        (Refusal(400, "IDPCommunicationError", "timed out"), "run it again"),
    ],
)
def test_each_refusal_of_sts_has_its_own_remedy(lab: Lab, refusal: Refusal, remedy: str) -> None:
    lab.sts.refuse = refusal

    error = lab.refused()

    assert remedy in error.hint
    assert refusal.code in error.detail


def test_a_refusal_in_the_middle_of_a_dump_is_as_clear_as_one_at_its_start(lab: Lab) -> None:
    lab.sts.lifetime = 60
    s3 = lab.open().client("s3")
    lab.sts.refuse = Refusal(
        403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"
    )

    with pytest.raises(AccessError, match=r"cannot assume .* with the id token"):
        s3.list_objects_v2(Bucket=BUCKET)


def test_an_error_of_the_token_loader_arrives_as_it_is(lab: Lab) -> None:
    missing = AccessError("no id token", hint="permissions: id-token: write")

    def load() -> str:
        raise missing

    with pytest.raises(AccessError) as caught:
        lab.open(load=load)

    assert missing is caught.value


def test_keys_that_are_already_over_point_to_the_clock(lab: Lab) -> None:
    lab.sts.lifetime = -60

    assert "set the clock" in lab.refused().hint


def test_another_account_than_the_allowed_ones_is_refused(lab: Lab) -> None:
    error = lab.refused(replace(ROLE_SETTINGS, allowed_account_ids=("999999999999",)))

    assert f"account {ACCOUNT} is not one of allowed-account-ids" == error.message
    assert "999999999999" in error.detail
    allowed = replace(ROLE_SETTINGS, allowed_account_ids=("999999999999", ACCOUNT))
    assert ACCOUNT == lab.open(allowed).account


def _trust_with_external_id(cloud: Ministack, principal: str) -> None:
    """The role may be assumed a second time, by `principal` and with the external id."""
    iam = cloud.client("iam")
    policy = iam.get_role(RoleName="pg-backup")["Role"]["AssumeRolePolicyDocument"]
    web_identity = policy["Statement"][0]
    chained = {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
    }
    document = {"Version": "2012-10-17", "Statement": [web_identity, chained]}
    iam.update_assume_role_policy(RoleName="pg-backup", PolicyDocument=json.dumps(document))


def test_an_external_id_is_given_by_a_second_session_and_both_are_renewed(lab: Lab) -> None:
    _trust_with_external_id(lab.cloud, ROLE)
    lab.sts.lifetime = 60
    session = lab.open(replace(ROLE_SETTINGS, external_id=EXTERNAL_ID, duration_seconds=43200))
    exchanges = len(lab.sts.exchanges)
    session.client("s3").list_objects_v2(Bucket=BUCKET)

    assert f"arn:aws:sts::{ACCOUNT}:assumed-role/pg-backup/pg-backup-action" == arn_of(session)
    # The second session has an hour; the first is renewed only when the second needs it.
    assert exchanges == len(lab.sts.exchanges)
    assert 1 + 2 * 3 == len(lab.masked)


def test_a_wrong_external_id_is_answered_with_the_statements_to_paste(lab: Lab) -> None:
    _trust_with_external_id(lab.cloud, ROLE)

    error = lab.refused(replace(ROLE_SETTINGS, external_id="another"))

    assert f"cannot assume {ROLE} with external id 'another'" == error.message
    assert '"sts:ExternalId": "another"' in error.hint
    assert f'"Resource": "{ROLE}"' in error.hint


def test_away_from_github_the_role_is_assumed_with_the_keys_of_the_environment(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trust_with_external_id(lab.cloud, f"arn:aws:iam::{ACCOUNT}:root")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    role = replace(ROLE_SETTINGS, external_id=EXTERNAL_ID)
    session = open_session(role, None, lab.masked.append)

    assert f"arn:aws:sts::{ACCOUNT}:assumed-role/pg-backup/pg-backup-action" == arn_of(session)
    assert 3 == len(lab.masked)
    assert [] == lab.sts.exchanges


def test_without_a_role_the_keys_of_the_environment_are_used(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    session = open_session(ASKING, None, lab.masked.append)

    assert f"arn:aws:iam::{ACCOUNT}:root" == arn_of(session)
    assert [] == lab.masked


def test_without_a_role_no_sts_is_needed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    assert open_session(AMBIENT, None, lab.masked.append).identity is None


def test_without_a_role_and_without_keys_the_yaml_to_add_is_shown(lab: Lab) -> None:
    with pytest.raises(AccessError) as caught:
        open_session(AMBIENT, None, lab.masked.append)

    assert "there are no AWS credentials" == caught.value.message
    assert "id-token: write" in caught.value.hint
    assert "role-to-assume: arn:aws:iam::" in caught.value.hint


def test_keys_that_aws_does_not_know_are_refused_without_showing_them(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")

    with pytest.raises(AccessError) as caught:
        open_session(ASKING, None, lab.masked.append)

    assert "not-a-real-secret" not in "\n".join(caught.value.lines())
    assert "AWS_SESSION_TOKEN" in caught.value.hint


def test_an_unreachable_sts_is_no_traceback(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    with pytest.raises(AccessError) as caught:
        open_session(ASKING, None, lab.masked.append)

    assert "no route to AWS" in caught.value.hint


def _secret(lab: Lab, name: str, **value: object) -> str:
    secrets = lab.cloud.client("secretsmanager")
    secrets.create_secret(Name=name, **value)
    return name


@pytest.fixture
def ambient(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> AwsSession:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return open_session(AMBIENT, None, lab.masked.append)


def test_a_plain_secret_is_the_password(lab: Lab, ambient: AwsSession) -> None:
    secret = read_database_secret(ambient, _secret(lab, "plain", SecretString="pass {word\n"))

    assert secret.password is not None
    assert "pass {word" == secret.password.value
    assert (None, None, None, None) == (secret.host, secret.port, secret.user, secret.database)
    assert "pass {word" not in repr(secret)


def test_the_json_of_rds_gives_the_whole_login(lab: Lab, ambient: AwsSession) -> None:
    login = {"username": "app", "password": "geheim", "engine": "postgres", "port": 5433}
    login |= {"host": "shop.abc.eu-central-1.rds.amazonaws.com", "dbname": "shop"}

    secret = read_database_secret(ambient, _secret(lab, "rds", SecretString=json.dumps(login)))

    assert secret.password is not None
    assert "geheim" == secret.password.value
    assert ("shop.abc.eu-central-1.rds.amazonaws.com", "5433") == (secret.host, secret.port)
    assert ("app", "shop") == (secret.user, secret.database)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("binary", {"SecretBinary": b"\x00"}, "the secret binary is binary"),
        ("empty", {"SecretString": '{"username": "a"}'}, "the secret empty holds no password"),
        (
            "mysql",
            {"SecretString": '{"password": "a", "engine": "mysql"}'},
            "the secret mysql is not for PostgreSQL",
        ),
        ("absent", {}, "there is no secret absent"),
    ],
)
def test_a_secret_without_a_password_is_bad_input(
    lab: Lab, ambient: AwsSession, name: str, value: dict[str, object], message: str
) -> None:
    if value:
        _secret(lab, name, **value)

    with pytest.raises(InputError) as caught:
        read_database_secret(ambient, name)

    assert message == caught.value.message


def test_a_denied_secret_is_answered_with_the_statement_to_add(lab: Lab) -> None:
    session = lab.open()

    with pytest.raises(AccessError) as caught:
        read_database_secret(session, "shop/backup")

    assert "secretsmanager:GetSecretValue" in caught.value.hint
    assert f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop/backup" in caught.value.hint


def test_a_denied_key_of_a_secret_is_answered_with_the_key_and_kms_decrypt(
    ambient: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234"
    text = f"User: {ROLE} is not authorized to perform: kms:Decrypt on resource: {key} because ..."
    body = json.dumps({"__type": "AccessDeniedException", "Message": text}).encode()
    denial = Response(400, body, {"Content-Type": "application/x-amz-json-1.1"})
    with contextlib.closing(HttpService(answering(lambda _: denial))) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", service.url)
        with pytest.raises(AccessError) as caught:
            read_database_secret(ambient, "shop/backup")

    statement = json.loads(caught.value.hint.splitlines()[-1])
    assert {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key} == statement


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("shop.abcdefghijkl.eu-central-1.rds.amazonaws.com", True),
        ("SHOP.ABCDEFGHIJKL.EU-CENTRAL-1.RDS.AMAZONAWS.COM.", True),
        ("shop.cluster-abcdefghijkl.us-east-1.rds.amazonaws.com", True),
        ("shop.cluster-ro-abcdefghijkl.us-east-1.rds.amazonaws.com", True),
        ("shop.proxy-abcdefghijkl.us-east-1.rds.amazonaws.com", True),
        ("reader.endpoint.proxy-abcdefghijkl.us-east-1.rds.amazonaws.com", True),
        ("shop.abcdefghijkl.us-gov-west-1.rds.amazonaws.com", True),
        ("shop.abcdefghijkl.rds.cn-north-1.amazonaws.com.cn", True),
        ("db.example.org", False),
        ("rds.amazonaws.com.example.org", False),
        ("shop.eu-central-1.rds.amazonaws.com.evil.org", False),
        ("127.0.0.1", False),
    ],
)
def test_hosts_of_rds_are_known_by_their_names(host: str, expected: bool) -> None:
    assert expected == is_rds_host(host)


def test_a_login_token_is_signed_for_the_region_of_the_host_and_for_the_session(lab: Lab) -> None:
    token = login_token(lab.open(), "shop.abcdefghijkl.us-west-2.rds.amazonaws.com", 5432, "backup")

    assert token.startswith("shop.abcdefghijkl.us-west-2.rds.amazonaws.com:5432/?Action=connect")
    assert "DBUser=backup" in token
    assert "us-west-2%2Frds-db" in token
    assert lab.sts.exchanges[-1].access_key in token
