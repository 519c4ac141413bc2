"""The bucket: whether it keeps what it is given, for as long as it should, and for nobody else."""

from __future__ import annotations

from datetime import datetime

from backup.aws.bucket_posture import PUBLIC_ACCESS_BLOCKS, BucketPosture, Encryption, ObjectLock
from backup.aws.session import AwsSession
from backup.checks import Answer, Check, Known, Unanswered, ask, failed, passed, warned
from backup.operations.auditing import bucket_keys, bucket_lifecycle, bucket_records
from backup.operations.auditing.bucket_policy import denies_plain_http, denying_plain_http
from backup.operations.auditing.bucket_replication import replication_checks
from backup.operations.auditing.shell import document, s3api
from backup.settings import Settings
from backup.wording import count

_LOCK_DAYS = 30
_OWNER_ENFORCED = "BucketOwnerEnforced"


def checks(session: AwsSession, settings: Settings, now: datetime) -> list[Check]:
    """Every check of the area. Raises AccessError where S3 cannot be reached at all."""
    # Commands name the account; a store that is no AWS has none.
    known = ask(session.identified)
    session = known.value if isinstance(known, Known) else session
    posture = BucketPosture(session, settings.bucket)
    rules = _Rules(settings, session.region, posture.arn)
    encryption = ask(posture.encryption)
    key = bucket_keys.key_of(settings.bucket, encryption)
    return [
        rules.versioning(ask(posture.versioning)),
        rules.encryption(encryption),
        *bucket_keys.checks(session, key, encryption),
        rules.public_access(ask(posture.public_access_blocks)),
        rules.ownership(ask(posture.ownership)),
        rules.tls(ask(posture.policy)),
        *_lifecycle(posture, settings, session.region),
        rules.object_lock(ask(posture.object_lock)),
        *replication_checks(session, settings, ask(posture.replication), key, now),
        *bucket_records.checks(session, settings.bucket, posture),
    ]


def _lifecycle(posture: BucketPosture, settings: Settings, region: str) -> list[Check]:
    answer = ask(posture.lifecycle)
    if isinstance(answer, Unanswered):
        return [answer.check(*each) for each in bucket_lifecycle.IDS]
    return bucket_lifecycle.LifecycleRules(answer.value, settings, region).checks()


class _Rules:
    """What each answer of S3 means for this bucket."""

    def __init__(self, settings: Settings, region: str, arn: str) -> None:
        self._bucket = settings.bucket
        self._region = region
        self._arn = arn

    def versioning(self, answer: Answer[str]) -> Check:
        about = ("bucket.versioning", "The bucket keeps versions")
        if isinstance(answer, Unanswered):
            return answer.check(*about)
        if answer.value == "Enabled":
            return passed(*about, "an object that is overwritten or deleted can be brought back")
        fix = self._put("versioning", "--versioning-configuration", {"Status": "Enabled"})
        state = "is suspended" if answer.value else "was never enabled"
        return failed(
            *about, f"versioning {state}: what is overwritten or deleted is gone for good", fix
        )

    def encryption(self, answer: Answer[Encryption | None]) -> Check:
        about = ("bucket.encryption", "Objects are encrypted by default")
        if isinstance(answer, Unanswered):
            return answer.check(*about)
        if answer.value:
            key = f" with {answer.value.key_id}" if answer.value.key_id else ""
            return passed(*about, f"{answer.value.algorithm}{key}")
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        fix = self._put("encryption", "--server-side-encryption-configuration", {"Rules": [rule]})
        return failed(*about, "the bucket has no default encryption", fix)

    def public_access(self, answer: Answer[frozenset[str]]) -> Check:
        about = ("bucket.public-access", "Public access is blocked in all four ways")
        if isinstance(answer, Unanswered):
            return answer.check(*about)
        off = [name for name in PUBLIC_ACCESS_BLOCKS if name not in answer.value]
        if not off:
            return passed(*about, "neither an ACL nor a policy can make it public")
        blocks = ",".join(f"{name}=true" for name in PUBLIC_ACCESS_BLOCKS)
        fix = s3api(
            self._bucket, self._region, "put-public-access-block",
            "--public-access-block-configuration", blocks,
        )  # fmt: skip
        return failed(*about, f"off: {', '.join(off)}", fix)

    def ownership(self, answer: Answer[str]) -> Check:
        about = ("bucket.ownership", "ACLs are off: the bucket's owner owns every object")
        if isinstance(answer, Unanswered):
            return answer.check(*about)
        if answer.value == _OWNER_ENFORCED:
            return passed(*about, _OWNER_ENFORCED)
        fix = s3api(
            self._bucket, self._region, "put-bucket-ownership-controls",
            "--ownership-controls", document({"Rules": [{"ObjectOwnership": _OWNER_ENFORCED}]}),
        )  # fmt: skip
        return failed(
            *about,
            f"object ownership is {answer.value or 'not set'}, so ACLs can let others in",
            fix,
        )

    def tls(self, answer: Answer[dict[str, object] | None]) -> Check:
        about = ("bucket.tls", "The bucket policy refuses plain http")
        if isinstance(answer, Unanswered):
            return answer.check(*about)
        if denies_plain_http(answer.value, self._arn):
            return passed(*about, "denied to everybody, on the bucket and on all objects")
        fix = self._put("policy", "--policy", denying_plain_http(answer.value, self._arn))
        reason = (
            "no Deny on aws:SecureTransport false meets everybody, all actions, the bucket and all"
            " its objects"
        )
        return failed(*about, reason if answer.value else "there is no bucket policy", fix)

    def object_lock(self, answer: Answer[ObjectLock | None]) -> Check:
        """A warning at most: what it takes away, deleting by mistake, is a choice."""
        about = ("bucket.object-lock", "Object Lock keeps backups from being deleted")
        if isinstance(answer, Unanswered):
            return answer.check(*about)
        lock = answer.value
        if lock and lock.mode:
            who = (
                "not even the account's root"
                if lock.mode == "COMPLIANCE"
                else "only who has s3:BypassGovernanceRetention"
            )
            days = count(lock.days, "day")
            return passed(*about, f"{lock.mode}, {days}: {who} can delete a version before")
        retention = {"Mode": "GOVERNANCE", "Days": _LOCK_DAYS}
        lock_all = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
        # S3 locks only what it keeps versions of.
        fix = "\n".join(
            (
                self._put("versioning", "--versioning-configuration", {"Status": "Enabled"}),
                s3api(
                    self._bucket, self._region, "put-object-lock-configuration",
                    "--object-lock-configuration", document(lock_all),
                ),
            )
        )  # fmt: skip
        reason = "it is on, without a default retention" if lock else "it is off"
        return warned(*about, f"{reason}: whoever may delete versions can delete them all", fix)

    def _put(self, subject: str, option: str, value: dict[str, object]) -> str:
        command = f"put-bucket-{subject}"
        return s3api(self._bucket, self._region, command, option, document(value))
