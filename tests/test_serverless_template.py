"""serverless.yaml, property by property: what runs, who it is, who may start it."""

from __future__ import annotations

import pytest

from backup.aws.grants import PolicyScope, needed
from backup.options import OPTIONS
from tests.lab.aws import REGION
from tests.lab.platforms import FUNCTION_ENTRY
from tests.lab.sts import ACCOUNT
from tests.lab.templates import TemplateError
from tests.serverless import (
    FARGATE,
    FORMS,
    GIVEN,
    SECRET,
    VPC,
    listed,
    made,
    permissions,
    statements,
    variables,
)

EACH = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
BOTH = pytest.mark.parametrize("form", [VPC, FARGATE], ids=["function", "task"])


@EACH
def test_the_role_may_do_what_a_backup_needs_and_no_more(form: dict[str, str]) -> None:
    template = made(**form)
    topic = form.get("TopicArn", f"arn:aws:sns:{REGION}:{ACCOUNT}:stack")
    parameters = {**GIVEN, **form}
    scope = PolicyScope(
        "aws",
        REGION,
        ACCOUNT,
        GIVEN["Bucket"],
        "postgresql",
        kms_key_arn=form.get("KmsKeyArn"),
        tags_objects=True,
        secret_arn=parameters["PasswordSecretArn"] or None,
        login_arn=form.get("LoginArn"),
        topic_arn=topic,
        namespace=form.get("CloudwatchNamespace", "PgBackup") or None,
    )
    wanted = permissions([grant.statement() for grant in needed("backup", scope)])
    assert wanted == permissions(statements(template, "Role"))


@EACH
def test_every_variable_is_an_input_and_none_is_a_secret(form: dict[str, str]) -> None:
    options = {f"INPUT_{o.name.upper().replace('-', '_')}": o.secret for o in OPTIONS}
    for name in variables(made(**form)):
        assert options[name] is False, name


def test_a_function_and_a_task_have_the_same_inputs() -> None:
    assert variables(made(**VPC)) == variables(made(**FARGATE))
    expected = {
        "INPUT_OPERATION": "backup",
        "INPUT_AWS_REGION": REGION,
        "INPUT_BUCKET": "backups-of-acme",
        "INPUT_DATABASE": "shop",
        "INPUT_PASSWORD_SECRET_ID": SECRET,
        "INPUT_IAM_AUTH": "false",
        "INPUT_RETENTION_TIER": "auto",
        "INPUT_FLEET_ENTRY": '{"jobs": 4}',
    }
    assert expected.items() <= variables(made(**VPC, MoreInputs='{"jobs": 4}')).items()
    assert "true" == variables(made(**FORMS["login-by-iam"]))["INPUT_IAM_AUTH"]


def test_the_platform_decides_what_is_made() -> None:
    kinds = {
        platform: {each["Type"] for each in made(**form).resources.values()}
        for platform, form in (("lambda", {}), ("fargate", FARGATE))
    }
    assert {"AWS::Lambda::Function", "AWS::Lambda::EventInvokeConfig", "AWS::IAM::Policy"} == {
        *kinds["lambda"] - kinds["fargate"]
    }
    assert {"AWS::ECS::Cluster", "AWS::ECS::TaskDefinition", "AWS::Events::Rule"} == {
        kind for kind in kinds["fargate"] - kinds["lambda"] if "EC2" not in kind
    }


def test_the_function_runs_the_image_under_the_runtime_interface_client() -> None:
    function = made().properties("Function")
    entry = function["ImageConfig"]
    assert list(FUNCTION_ENTRY) == [*entry["EntryPoint"], *entry["Command"]]
    assert "/app" == entry["WorkingDirectory"]
    assert ("Image", 900) == (function["PackageType"], function["Timeout"])
    assert {"ImageUri": GIVEN["ImageUri"]} == function["Code"]
    assert ["x86_64"] == function["Architectures"]
    assert ["arm64"] == made(Architecture="arm64").properties("Function")["Architectures"]
    assert "VpcConfig" not in function
    inside = made(**VPC).properties("Function")["VpcConfig"]
    assert {"SubnetIds": VPC["SubnetIds"].split(","), "SecurityGroupIds": ["sg-ours"]} == inside


def test_what_a_function_gives_up_is_kept_with_its_reason() -> None:
    retries = made().properties("FunctionRetries")
    assert 1 == retries["MaximumRetryAttempts"]
    failed = {"OnFailure": {"Destination": "<Undelivered.Arn>"}}
    assert failed == retries["DestinationConfig"]


def test_the_function_itself_may_not_use_what_lambda_does_in_its_name() -> None:
    policy = made(**VPC).properties("FunctionPolicy")["PolicyDocument"]["Statement"]
    allowed = {a for each in policy if each["Effect"] == "Allow" for a in listed(each["Action"])}
    (denied,) = [each for each in policy if each["Effect"] == "Deny"]
    assert {action for action in allowed if action.startswith("ec2:")} == set(denied["Action"])
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:stack"
    assert {"ArnEquals": {"lambda:SourceFunctionArn": function}} == denied["Condition"]
    # Lambda makes no function for a role that may remove only network-interface/*.
    (removing,) = [each for each in policy if "ec2:DeleteNetworkInterface" in each["Action"]][:1]
    assert f"arn:aws:ec2:{REGION}:{ACCOUNT}:*/*" == removing["Resource"]
    outside = made().properties("FunctionPolicy")["PolicyDocument"]["Statement"]
    assert ["WriteLogs", "KeepWhatFailed"] == [each["Sid"] for each in outside]


def test_a_task_has_the_least_of_rights() -> None:
    definition = made(**FARGATE).properties("TaskDefinition")
    (container,) = definition["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert "1234:1234" == container["User"]
    assert {"Drop": ["ALL"]} == container["LinuxParameters"]["Capabilities"]
    (mount,) = container["MountPoints"]
    assert ("scratch", "/tmp") == (mount["SourceVolume"], mount["ContainerPath"])  # noqa: S108
    assert [{"Name": "scratch"}] == definition["Volumes"]
    assert "Secrets" not in container
    assert container["StopTimeout"] >= 10
    assert not {"Command", "EntryPoint", "PortMappings"} & container.keys()


def test_a_task_is_started_without_a_public_address() -> None:
    target = made(**FARGATE).properties("Schedule")["Target"]
    network = target["EcsParameters"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert "DISABLED" == network["AssignPublicIp"]
    assert VPC["SubnetIds"].split(",") == network["Subnets"]
    assert ["sg-ours"] == network["SecurityGroups"]
    assert "FARGATE" == target["EcsParameters"]["LaunchType"]


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        (GIVEN["ImageUri"], f"{REGION}:{ACCOUNT}:repository/pg-backup-action"),
        (
            f"210987654321.dkr.ecr.us-east-1.amazonaws.com/pg_backup.x@sha256:{'0a' * 32}",
            "us-east-1:210987654321:repository/pg_backup.x",
        ),
    ],
)
def test_who_starts_the_task_may_fetch_this_image_alone(image: str, repository: str) -> None:
    start = statements(made(**FARGATE, ImageUri=image), "ExecutionRole")
    by_sid = {each["Sid"]: each for each in start}
    assert {"LogInToEcr", "FetchTheImage", "WriteLogs"} == by_sid.keys()
    assert f"arn:aws:ecr:{repository}" == by_sid["FetchTheImage"]["Resource"]
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/pg-backup/stack:*"
    assert logs == by_sid["WriteLogs"]["Resource"]


@pytest.mark.parametrize(
    "image",
    [
        "pg-backup-action:v1",
        "docker.io/library/pg-backup-action:v1",
        f"{GIVEN['ImageUri']}:v2",
        f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/pg-backup-action:v1",
        f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/pg-backup-action",
    ],
)
def test_an_image_that_is_not_in_ecr_or_has_no_version_is_refused(image: str) -> None:
    with pytest.raises(TemplateError, match="ImageUri"):
        made(ImageUri=image)


def test_the_schedule_may_start_this_alone() -> None:
    function = statements(made(), "ScheduleRole")
    task = {each["Sid"]: each for each in statements(made(**FARGATE), "ScheduleRole")}

    assert ["Invoke", "KeepWhatFailed"] == [each["Sid"] for each in function]
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:stack"
    assert ("lambda:InvokeFunction", arn) == (function[0]["Action"], function[0]["Resource"])
    assert {"RunTask", "GiveTheTaskItsRoles", "KeepWhatFailed"} == task.keys()
    assert "<TaskDefinition>" == task["RunTask"]["Resource"]
    assert {"ArnEquals": {"ecs:cluster": "<Cluster.Arn>"}} == task["RunTask"]["Condition"]
    given = task["GiveTheTaskItsRoles"]
    assert 2 == len(given["Resource"])
    passed = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    assert passed == given["Condition"]


@BOTH
def test_a_role_is_assumed_by_its_service_for_this_account_alone(form: dict[str, str]) -> None:
    template = made(**form)
    services = {
        "Role": "lambda" if form is VPC else "ecs-tasks",
        "ExecutionRole": "ecs-tasks",
        "ScheduleRole": "scheduler",
        "EventRole": "events",
    }
    roles = template.of_type("AWS::IAM::Role")
    for name, role in roles.items():
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        service = services[name]
        assert {"Service": f"{service}.amazonaws.com"} == trust["Principal"]
        # Lambda says neither whose function it is nor which.
        if service != "lambda":
            assert ACCOUNT == trust["Condition"]["StringEquals"]["aws:SourceAccount"]
        assert "RoleName" not in role
    (trust,) = roles["ScheduleRole"]["AssumeRolePolicyDocument"]["Statement"]
    group = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/stack"
    assert group == trust["Condition"]["StringEquals"]["aws:SourceArn"]


@BOTH
def test_nobody_comes_in_and_out_goes_what_must(form: dict[str, str]) -> None:
    template = made(**form, Port="5433", HttpsCidr="10.0.0.0/16", S3PrefixListId="pl-0a1b2c3d")
    group = template.properties("SecurityGroup")
    assert "SecurityGroupIngress" not in group
    out = {
        (
            each.get("DestinationSecurityGroupId")
            or each.get("CidrIp")
            or each["DestinationPrefixListId"],
            each["FromPort"],
            each["ToPort"],
        )
        for each in group["SecurityGroupEgress"]
    }
    assert {
        (VPC["DatabaseSecurityGroupId"], "5433", "5433"),
        ("10.0.0.0/16", 443, 443),
        ("pl-0a1b2c3d", 443, 443),
    } == out
    assert {"tcp"} == {each["IpProtocol"] for each in group["SecurityGroupEgress"]}
    let_in = template.properties("DatabaseLetsIn")
    assert VPC["DatabaseSecurityGroupId"] == let_in["GroupId"]
    assert ("sg-ours", "5433") == (let_in["SourceSecurityGroupId"], let_in["ToPort"])
    assert [] == list(made().of_type("AWS::EC2::SecurityGroup"))
