"""RDS: exports of snapshots to S3; the scripts of their operations. Nothing is written to S3."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import Estate, Thing, identifier_of
from tests.lab.scripted.keys import Keys

FILTERS = {
    "export-task-identifier": ("ExportTaskIdentifier",),
    "s3-bucket": ("S3Bucket",),
    "source-arn": ("SourceArn",),
}
Answer = dict[str, Any]


class Exports:
    def __init__(self, estate: Estate, keys: Keys) -> None:
        self.states: tuple[str, ...] = ("STARTING", "IN_PROGRESS", "COMPLETE")  # of the next
        self.failure = "A problem occurred while the data was written."  # told with FAILED
        self.size_in_gb = 42
        self.buckets: set[str] | None = None  # those that exist; None: all
        self._estate = estate
        self._keys = keys

    def start_export_task(self, call: Call) -> Answer:
        given = call.input
        identifier = identifier_of(call, "ExportTaskIdentifier", 60)
        if identifier in self._estate.all("export", call.region):
            raise Refused("ExportTaskAlreadyExists", f"Export task {identifier} already exists.")
        kind = given["SourceArn"].split(":", 6)[5]
        source = self._estate.at(given["SourceArn"])
        if source is None or kind not in ("snapshot", "cluster-snapshot"):
            code = "DBClusterSnapshotNotFoundFault" if "cluster" in kind else "DBSnapshotNotFound"
            raise Refused(code, f"{given['SourceArn']} not found.")
        if source.course.state != "available":
            raise Refused(
                "InvalidExportSourceState",
                f"The snapshot is in the {source.course.state} state, not available.",
            )
        if self.buckets is not None and given["S3BucketName"] not in self.buckets:
            raise Refused(
                "InvalidS3BucketFault",
                f"The S3 bucket {given['S3BucketName']} doesn't exist.",
            )
        key = self._keys.named(given["KmsKeyId"], call.region)
        now = datetime.datetime.now(datetime.UTC)
        description = {
            "ExportTaskIdentifier": identifier,
            "SourceArn": given["SourceArn"],
            "SourceType": "CLUSTER" if "cluster" in kind else "SNAPSHOT",
            "ExportOnly": given.get("ExportOnly", []),
            "SnapshotTime": source.description["SnapshotCreateTime"],
            "S3Bucket": given["S3BucketName"],
            "S3Prefix": given.get("S3Prefix", ""),
            "IamRoleArn": given["IamRoleArn"],
            "KmsKeyId": key,
            "TaskStartTime": now,
        }
        thing = self._estate.add("export", call.region, identifier, description, *self.states)
        return self._told(thing)

    def describe_export_tasks(self, call: Call) -> Answer:
        things = list(self._estate.all("export", call.region).values())
        for name in ("SourceArn", "SourceType"):
            wanted = call.input.get(name)
            things = [t for t in things if wanted in (None, t.description[name])]
        if "ExportTaskIdentifier" in call.input:
            things = [self._found(call)]
        page, marker = self._estate.page(call, things, FILTERS)
        told = [self._told(thing) for thing in page]
        for thing in page:
            thing.course.describe()
        return {"ExportTasks": told, **marker}

    def cancel_export_task(self, call: Call) -> Answer:
        thing = self._found(call)
        state = thing.course.state
        if state not in ("STARTING", "IN_PROGRESS"):
            raise Refused(
                "InvalidExportTaskStateFault", f"Cannot cancel a task in the {state} state."
            )
        self._estate.send(thing, "CANCELING", "CANCELED")
        return self._told(thing)

    def _found(self, call: Call) -> Thing:
        name = call.input["ExportTaskIdentifier"]
        thing = self._estate.all("export", call.region).get(name.lower())
        if thing is None:
            raise Refused("ExportTaskNotFound", f"Export task {name} not found.")
        return thing

    def _told(self, thing: Thing) -> dict[str, Any]:
        state = thing.course.state
        told: Mapping[str, Any] = {
            **thing.description,
            "Status": state,
            "PercentProgress": thing.course.percent,
        }
        if thing.course.over:
            thing.description.setdefault("TaskEndTime", datetime.datetime.now(datetime.UTC))
            told = {**told, **thing.description}
        if state == "COMPLETE":
            told = {**told, "TotalExtractedDataInGB": self.size_in_gb}
        if state == "FAILED":
            told = {**told, "FailureCause": self.failure}
        return dict(told)
