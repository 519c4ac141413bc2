"""EC2 Instance Connect: lets the holder of a key into one instance, for a minute.

https://docs.aws.amazon.com/ec2-instance-connect/latest/APIReference/API_SendSSHPublicKey.html
"""

from __future__ import annotations

from backup.aws.permissions import partition
from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession
from backup.errors import DumpError, InputError

_NOT_RUNNING = Remedy(InputError, "start it: aws ec2 start-instances --instance-ids INSTANCE")
_AGAIN = Remedy(DumpError, "run it again in a while")
_REMEDIES = {
    "EC2InstanceNotFoundException": Remedy(
        InputError, "correct tunnel-instance-id; the instance must be in aws-region"
    ),
    "EC2InstanceStateInvalidException": _NOT_RUNNING,
    "EC2InstanceUnavailableException": _AGAIN,
    "InvalidArgsException": Remedy(
        InputError, "the user in tunnel must be one of the instance's own, as ec2-user or ubuntu"
    ),
    "ServiceException": _AGAIN,
}


def send_public_key(session: AwsSession, instance_id: str, user: str, public_key: str) -> None:
    """Let the key in as that user of the instance, for the next 60 seconds.

    Raises AccessError, InputError or DumpError.
    """
    region = session.region
    attempt = Attempt(
        f"cannot send a key to {instance_id} by EC2 Instance Connect",
        region,
        ("ec2-instance-connect:SendSSHPublicKey",),
        f"arn:{partition(region)}:ec2:{region}:{session.account}:instance/{instance_id}",
        unreachable=DumpError,
        failure=DumpError,
        remedies={
            code: Remedy(each.error, each.hint.replace("INSTANCE", instance_id))
            for code, each in _REMEDIES.items()
        },
    )
    with explained(attempt):
        session.client("ec2-instance-connect").send_ssh_public_key(
            InstanceId=instance_id, InstanceOSUser=user, SSHPublicKey=public_key
        )
