"""The groups that a new instance is to stand in: whether they are in this region."""

from __future__ import annotations

from backup.aws.instances import rds_arn
from backup.aws.refusals import Attempt, error_code, explained
from backup.aws.session import AwsSession
from backup.errors import AccessError


def has_subnet_group(session: AwsSession, name: str) -> bool:
    """Whether there is a subnet group of that name. Raises AccessError."""
    return _described(session, "DBSubnetGroup", "subgrp", name) is not None


def parameter_family(session: AwsSession, name: str, *, of_cluster: bool) -> str | None:
    """The family of a parameter group, as in postgres17; None where there is no such group.

    Raises AccessError.
    """
    kind = "DBClusterParameterGroup" if of_cluster else "DBParameterGroup"
    told = _described(session, kind, "cluster-pg" if of_cluster else "pg", name)
    return None if told is None else told["DBParameterGroupFamily"]


# The code of the call's own model comes last; RDS answers DBParameterGroupNotFound for both kinds.
_CALLS = {
    "DBSubnetGroup": ("describe_db_subnet_groups", "DBSubnetGroupNotFoundFault"),
    "DBParameterGroup": ("describe_db_parameter_groups", "DBParameterGroupNotFound"),
    "DBClusterParameterGroup": (
        "describe_db_cluster_parameter_groups",
        "DBParameterGroupNotFound",
    ),
}


def _described(session: AwsSession, kind: str, arn_kind: str, name: str) -> dict[str, str] | None:
    from botocore.exceptions import ClientError

    call, missing = _CALLS[kind]
    attempt = Attempt(
        f"cannot look for the group {name}",
        session.region,
        (f"rds:Describe{kind}s",),
        rds_arn(session, arn_kind, name),
        failure=AccessError,
    )
    with explained(attempt):
        try:
            answer = getattr(session.client("rds"), call)(**{f"{kind}Name": name})
        except ClientError as error:
            if error_code(error) != missing:
                raise
            return None
    listed: list[dict[str, str]] = answer[f"{kind}s"]
    return listed[0] if listed else None
