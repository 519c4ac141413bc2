"""Which trails of CloudTrail record who reads and writes the objects of a bucket.

https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-data-events-with-cloudtrail.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backup.aws.refusals import Attempt, explained
from backup.aws.session import AwsSession, short_of_patience
from backup.errors import AccessError

_OBJECTS = "AWS::S3::Object"


def trails_of_objects(session: AwsSession, objects_arn: str) -> tuple[str, ...]:
    """Names of the trails that record every event of the objects whose ARN begins with that.

    Raises AccessError.
    """
    client = session.client("cloudtrail", short_of_patience())
    with explained(_attempt(session, "cannot list the trails of CloudTrail", "DescribeTrails")):
        trails = client.describe_trails(includeShadowTrails=True)["trailList"]
    return tuple(str(trail["Name"]) for trail in trails if _records(session, trail, objects_arn))


def _records(session: AwsSession, trail: Mapping[str, Any], objects_arn: str) -> bool:
    arn, home = str(trail["TrailARN"]), str(trail.get("HomeRegion") or session.region)
    client = session.in_region(home).client("cloudtrail", short_of_patience())
    message = f"cannot see what trail {trail['Name']} records"
    with explained(_attempt(session, message, "GetTrailStatus", arn)):
        if not client.get_trail_status(Name=arn)["IsLogging"]:
            return False
    with explained(_attempt(session, message, "GetEventSelectors", arn)):
        answer = client.get_event_selectors(TrailName=arn)
    return any(_takes_in(each, objects_arn) for each in answer.get("EventSelectors") or ()) or any(
        _takes_in_advanced(each, objects_arn) for each in answer.get("AdvancedEventSelectors") or ()
    )


def _takes_in(selector: Mapping[str, Any], objects_arn: str) -> bool:
    """https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_DataResource.html"""
    if selector.get("ReadWriteType", "All") != "All":
        return False
    return any(
        resource["Type"] == _OBJECTS
        and any(objects_arn.startswith(value) for value in resource.get("Values", ()))
        for resource in selector.get("DataResources", ())
    )


def _takes_in_advanced(selector: Mapping[str, Any], objects_arn: str) -> bool:
    """https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_AdvancedFieldSelector.html

    Any field beyond the three known ones leaves events out, and so does any `Not…`.
    """
    fields = {each["Field"]: each for each in selector.get("FieldSelectors", ())}
    if fields.keys() - {"eventCategory", "resources.type", "resources.ARN"}:
        return False
    if any(each[name] for each in fields.values() for name in each if name.startswith("Not")):
        return False
    kind, where = fields.get("resources.type", {}), fields.get("resources.ARN")
    return _OBJECTS in kind.get("Equals", ()) and (
        where is None or any(objects_arn.startswith(each) for each in where.get("StartsWith", ()))
    )


def _attempt(session: AwsSession, message: str, operation: str, arn: str = "*") -> Attempt:
    return Attempt(
        message=message,
        region=session.region,
        actions=(f"cloudtrail:{operation}",),
        resource=arn,
        failure=AccessError,
    )
