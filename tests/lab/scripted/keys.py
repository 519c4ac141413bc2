"""KMS keys, as far as RDS looks at them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from tests.lab.scripted.calls import Call, Refused
from tests.lab.sts import ACCOUNT


@dataclass(frozen=True)
class Key:
    arn: str  # of the key itself, also where it was named by an alias
    aliases: tuple[str, ...]


def managed_key(region: str) -> str:
    """The key behind alias/aws/rds, which AWS manages: nobody needs permission to use it."""
    return resolved("alias/aws/rds", region).arn


def resolved(given: str, region: str) -> Key:
    """A key given as ARN, id, alias or alias's ARN; an ARN may be another region's."""
    prefix, _, name = given.rpartition(":") if given.startswith("arn:") else ("", "", given)
    prefix = prefix or f"arn:aws:kms:{region}:{ACCOUNT}"
    if name.startswith("alias/"):
        return Key(f"{prefix}:key/{uuid.uuid5(uuid.NAMESPACE_URL, f'{prefix}:{name}')}", (name,))
    return Key(f"{prefix}:key/{name.removeprefix('key/')}", ())


class Keys:
    """Every key of a region can be used, but for those that a test puts into `inaccessible`."""

    def __init__(self) -> None:
        self.inaccessible: set[str] = set()  # ARNs of keys, ids or aliases, as a call names them

    def named(self, given: str, region: str) -> str:
        """The ARN of a key that a call names."""
        arn = resolved(given, region).arn
        if arn.split(":")[3] != region or self.inaccessible & {arn, given}:
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
