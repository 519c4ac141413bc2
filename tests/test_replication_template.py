"""What is copied to the second region, by whom and with which keys; and other accounts' roles."""

from __future__ import annotations

from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed
from tests.lab.aws import REGION
from tests.lab.sts import ACCOUNT
from tests.lab.templates import resolve
from tests.storage_templates import (
    ARN,
    EVERYTHING,
    KEY,
    READERS,
    SOURCE,
    WRITERS,
    by_sid,
    made,
    parameters_of,
    statements,
    store,
)

SECOND = "eu-west-1"
COPIES = {
    "ReplicaBucket": "copies",
    "ReplicaKmsKeyArn": f"arn:aws:kms:{SECOND}:{ACCOUNT}:key/4d5e6f",
}
ROLE = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-replication/mine"


def rule(**parameters: str) -> dict[str, Any]:
    (found,) = store("storage", **COPIES, **parameters)["ReplicationConfiguration"]["Rules"]
    one: dict[str, Any] = found
    return one


def test_both_regions_keep_backups_alike() -> None:
    """A copy is protected as its original is, and deleted when it is: by its own bucket."""
    first, second = made("storage"), made("replication")
    assert first.properties("Store") == second.properties("Store")
    assert first.properties("LogBucket") == second.properties("LogBucket")
    assert statements(first) == statements(second)
    told = {name: each for name, each in parameters_of("storage").items() if "Days" in name}
    others = {name: each for name, each in parameters_of("replication").items() if "Days" in name}
    assert told == others


def test_the_replica_has_another_name_even_in_the_same_region() -> None:
    first, second = resolve("storage"), resolve("replication")
    assert first.outputs["Bucket"] != second.outputs["ReplicaBucket"]


def test_nothing_is_replicated_by_default() -> None:
    resolved = made("storage")
    assert "ReplicationConfiguration" not in resolved.properties("Store")
    assert {} == resolved.of_type("AWS::IAM::Role")


class TestRule:
    def test_it_takes_in_every_object_but_no_deletion(self) -> None:
        found = rule()
        assert "Enabled" == found["Status"]
        assert {"Prefix": ""} == found["Filter"]
        assert {"Status": "Disabled"} == found["DeleteMarkerReplication"]

    def test_what_kms_encrypts_is_copied_with_the_key_of_the_second_region(self) -> None:
        criteria = rule()["SourceSelectionCriteria"]
        assert {"Status": "Enabled"} == criteria["SseKmsEncryptedObjects"]
        assert {"Status": "Disabled"} == criteria["ReplicaModifications"]
        encryption = rule()["Destination"]["EncryptionConfiguration"]
        assert {"ReplicaKmsKeyID": COPIES["ReplicaKmsKeyArn"]} == encryption
        assert "arn:aws:s3:::copies" == rule()["Destination"]["Bucket"]

    def test_with_keys_of_s3_no_key_is_named(self) -> None:
        configuration = store("storage", Encryption="s3", ReplicaBucket="copies")
        (found,) = configuration["ReplicationConfiguration"]["Rules"]
        assert {"Status": "Disabled"} == found["SourceSelectionCriteria"]["ReplicaModifications"]
        assert "SseKmsEncryptedObjects" not in found["SourceSelectionCriteria"]
        assert "EncryptionConfiguration" not in found["Destination"]

    @pytest.mark.parametrize("encryption", ["kms", "s3"])
    def test_a_key_for_the_copies_comes_with_what_s3_takes_no_key_without(
        self, encryption: str
    ) -> None:
        """https://github.com/hashicorp/terraform-provider-aws/issues/26241"""
        found = rule(Encryption=encryption)
        assert "EncryptionConfiguration" in found["Destination"]
        assert {"Status": "Enabled"} == found["SourceSelectionCriteria"]["SseKmsEncryptedObjects"]

    def test_it_is_measured_and_time_is_promised_where_that_is_paid_for(self) -> None:
        plain, promised = rule()["Destination"], rule(ReplicationTimeControl="true")["Destination"]
        assert {"Status": "Enabled"} == plain["Metrics"]
        assert "ReplicationTime" not in plain
        minutes = {"Minutes": 15}
        assert {"Status": "Enabled", "EventThreshold": minutes} == promised["Metrics"]
        assert {"Status": "Enabled", "Time": minutes} == promised["ReplicationTime"]


class TestRole:
    @staticmethod
    def policy(**parameters: str) -> dict[str, dict[str, Any]]:
        role = made("storage", **{**COPIES, **parameters}).properties("ReplicationRole")
        (policy,) = role["Policies"]
        return by_sid(policy["PolicyDocument"])

    def test_it_is_called_so_that_another_account_can_name_it(self) -> None:
        role = made("storage", **COPIES).properties("ReplicationRole")
        assert ("/pg-backup-replication/", "mine") == (role["Path"], role["RoleName"])
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        services = {"s3.amazonaws.com", "batchoperations.s3.amazonaws.com"}
        assert services == set(trust["Principal"]["Service"])

    def test_it_reads_here_writes_there_and_deletes_nowhere(self) -> None:
        policy = self.policy()
        where = {sid: each["Resource"] for sid, each in policy.items()}
        assert {
            "ReadTheRule": ARN,
            "ReadBackups": f"{ARN}/*",
            "WriteCopies": "arn:aws:s3:::copies/*",
            "DecryptBackups": KEY,
            "EncryptCopies": COPIES["ReplicaKmsKeyArn"],
        } == where
        assert {"s3:ReplicateObject", "s3:ReplicateTags"} == set(policy["WriteCopies"]["Action"])

    def test_its_keys_serve_s3_alone_each_in_its_region(self) -> None:
        policy = self.policy()
        through = {
            sid: policy[sid]["Condition"]["StringEquals"]["kms:ViaService"]
            for sid in ("DecryptBackups", "EncryptCopies")
        }
        assert {
            "DecryptBackups": f"s3.{REGION}.amazonaws.com",
            "EncryptCopies": f"s3.{SECOND}.amazonaws.com",
        } == through

    def test_it_needs_no_key_where_there_is_none(self) -> None:
        policy = self.policy(Encryption="s3", ReplicaKmsKeyArn="")
        assert {"ReadTheRule", "ReadBackups", "WriteCopies"} == policy.keys()


class TestOtherAccounts:
    def test_the_role_of_the_first_account_may_copy_and_not_delete(self) -> None:
        resolved = made("replication", SourceRoleArn=SOURCE)
        allowed = statements(resolved)["WriteCopies"]
        assert {"s3:ReplicateObject", "s3:ReplicateTags"} == set(allowed["Action"])
        assert f"{ARN}/*" == allowed["Resource"]
        key = by_sid(resolved.properties("Key")["KeyPolicy"])["EncryptCopies"]
        assert {"kms:Encrypt", "kms:GenerateDataKey"} == set(key["Action"])
        for each in (allowed, key):
            assert {"AWS": f"arn:aws:iam::{ACCOUNT}:root"} == each["Principal"]
            assert {"aws:PrincipalArn": SOURCE} == each["Condition"]["ArnEquals"]

    def test_it_is_the_role_that_the_first_stack_makes(self) -> None:
        role = made("storage", **COPIES).properties("ReplicationRole")
        arn = f"arn:aws:iam::{ACCOUNT}:role{role['Path']}{role['RoleName']}"
        assert ROLE == arn
        made("replication", SourceRoleArn=arn)  # and its pattern takes it

    @pytest.mark.parametrize("template", ["storage", "replication"])
    @pytest.mark.parametrize(
        ("archive", "thawing"), [("GLACIER_IR", set()), ("GLACIER", {"s3:RestoreObject"}),
                                 ("DEEP_ARCHIVE", {"s3:RestoreObject"})],
    )  # fmt: skip
    def test_readers_may_do_what_a_restore_does(
        self, template: str, archive: str, thawing: set[str]
    ) -> None:
        resolved = made(template, ReaderRoleArns=READERS, ArchiveClass=archive)
        found = {sid: each for sid, each in statements(resolved).items() if "Deny" not in sid}
        assert {"ReadBackups", "ListForReaders"} == found.keys()
        assert {"s3:GetObject", *thawing} == set(found["ReadBackups"]["Action"])
        assert f"{ARN}/postgresql/*" == found["ReadBackups"]["Resource"]
        assert [READERS] == found["ReadBackups"]["Principal"]["AWS"]
        assert ("s3:ListBucket", ARN) == (
            found["ListForReaders"]["Action"],
            found["ListForReaders"]["Resource"],
        )
        key = by_sid(resolved.properties("Key")["KeyPolicy"])["DecryptBackups"]
        assert ([READERS], "kms:Decrypt") == (key["Principal"]["AWS"], key["Action"])

    def test_writers_may_do_what_a_backup_does_and_no_more(self) -> None:
        resolved = made("storage", WriterRoleArns=WRITERS)
        found = {sid: each for sid, each in statements(resolved).items() if "Deny" not in sid}
        key = by_sid(resolved.properties("Key")["KeyPolicy"])["EncryptBackups"]
        allowed = {*found["WriteBackups"]["Action"], found["ListForWriters"]["Action"]}
        scope = PolicyScope(
            "aws", REGION, ACCOUNT, "mine", "postgresql", kms_key_arn=KEY, tags_objects=True
        )
        wanted = {action for grant in needed("backup", scope) for action in grant.actions}
        assert wanted == allowed | set(key["Action"])
        assert f"{ARN}/postgresql/*" == found["WriteBackups"]["Resource"]
        assert WRITERS.split(",") == found["WriteBackups"]["Principal"]["AWS"]

    def test_without_a_prefix_it_is_all_objects(self) -> None:
        resolved = made("storage", Prefix="", **EVERYTHING["storage"])
        for sid in ("WriteBackups", "ReadBackups"):
            assert f"{ARN}/*" == statements(resolved)[sid]["Resource"]
