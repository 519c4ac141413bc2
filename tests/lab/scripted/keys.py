"""KMS keys, as far as RDS looks at them."""

from __future__ import annotations

import re

from tests.lab.scripted.calls import Call, Refused
from tests.lab.sts import ACCOUNT

ARN = re.compile(r"arn:aws:kms:(?P<region>[^:]+):\d{12}:(?:key|alias)/.+")


def managed_key(region: str) -> str:
    """The key behind alias/aws/rds, which AWS manages: nobody needs permission to use it."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/aaaaaaaa-1111-4222-8333-aws000000rds"


class Keys:
    """Every key of a region can be used, but for those that a test puts into `inaccessible`."""

    def __init__(self) -> None:
        self.inaccessible: set[str] = set()

    def named(self, given: str, region: str) -> str:
        """The ARN of a key given as ARN, id, alias or alias's ARN."""
        if given.endswith("alias/aws/rds"):
            arn = managed_key(region)
        elif given.startswith("arn:"):
            arn = given
        elif given.startswith("alias/"):
            arn = f"arn:aws:kms:{region}:{ACCOUNT}:{given}"
        else:
            arn = f"arn:aws:kms:{region}:{ACCOUNT}:key/{given}"
        found = ARN.fullmatch(arn)
        if found is None or found["region"] != region or arn in self.inaccessible:
            raise Refused(
                "KMSKeyNotAccessibleFault",
                f"The specified KMS key [{given}] does not exist, is not enabled or you do not"
                " have permissions to access it.",
            )
        return arn

    def for_copy(self, call: Call, source_key: str | None, abroad: bool) -> str | None:
        """The key that encrypts a copy of a snapshot; None: neither is encrypted."""
        if "KmsKeyId" in call.input:
            return self.named(call.input["KmsKeyId"], call.region)
        if source_key is not None and abroad:
            raise Refused(
                "InvalidParameterCombination",
                "KmsKeyId must be specified when copying an encrypted snapshot to another region.",
                400,
            )
        return source_key
