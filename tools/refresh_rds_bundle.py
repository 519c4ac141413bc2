"""Renews backup/aws/rds-root-bundle.pem from the bundles that Amazon publishes.

    python -m tools.refresh_rds_bundle [--bundle FILE] [URL ...]

The URLs stand in for Amazon's own. Exits with 1, and leaves the file as it is, when a bundle
cannot be fetched, holds anything but certificates of authorities, or lacks a root that the file
has and that is still valid: a root does not vanish by itself.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import sys
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

BUNDLE = Path(__file__).resolve().parents[1] / "backup/aws/rds-root-bundle.pem"

# The partitions publish apart: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
# and, for China, https://docs.amazonaws.cn/en_us/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
TRUSTSTORES = (
    "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
    "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem",
    "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/global/global-bundle.pem",
)
# RDS Proxy has certificates of ACM, whose roots are in none of the bundles:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.howitworks.html
PROXY_ROOTS = tuple(f"Amazon Root CA {number}" for number in (1, 2, 3, 4))


class Refused(Exception):
    """The file stays as it is; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="refresh_rds_bundle")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, metavar="FILE")
    parser.add_argument("urls", nargs="*", default=TRUSTSTORES, metavar="URL")
    given = parser.parse_args(arguments)
    try:
        refresh(given.bundle, given.urls)
    except (Refused, OSError) as error:
        print(f"{given.bundle} stays as it is: {error}", file=sys.stderr)
        return 1
    return 0


def refresh(bundle: Path, urls: Iterable[str]) -> None:
    """Replace `bundle` by the roots behind `urls` and its own of RDS Proxy.

    Raises Refused; OSError where the file cannot be read or written.
    """
    before = still_valid(parse(bundle.read_bytes(), str(bundle)))
    proxy = {root for root in before if common_name(root) in PROXY_ROOTS}
    if missing := set(PROXY_ROOTS) - {common_name(root) for root in proxy}:
        raise Refused(f"it holds no {', '.join(sorted(missing))}, which RDS Proxy needs")
    after = proxy.union(*(published(url) for url in urls))
    if lost := before - after:
        raise Refused(
            "these are valid, and Amazon's bundles have them no more:\n"
            + "\n".join(sorted(map(describe, lost)))
            + "\nFind out why; then take them out of the file by hand."
        )
    part = bundle.with_suffix(".part")
    part.write_text("".join(map(entry, sorted(after, key=order))))
    part.replace(bundle)
    for root in sorted(after - before, key=order):
        print(f"new: {describe(root)}")
    print(f"{os.path.relpath(bundle)}: {len(after)} roots, {len(after - before)} of them new")


def published(url: str) -> set[x509.Certificate]:
    """The valid roots of the bundle at `url`."""
    try:
        # The addresses are this file's or the caller's own.
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
            data: bytes = response.read()
    except (OSError, ValueError) as error:
        raise Refused(f"{url} cannot be fetched: {error}") from error
    print(f"{url}: sha256 {hashlib.sha256(data).hexdigest()}")
    roots = still_valid(parse(data, url))
    if not roots:
        raise Refused(f"{url} holds no valid root")
    return roots


def parse(data: bytes, origin: str) -> set[x509.Certificate]:
    """The roots in PEM text; intermediates, which GovCloud's bundle has too, are left out.

    Amazon: trust the root, never an intermediate, or a rotation of the server's certificate
    breaks the connection.
    """
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise Refused(f"{origin} holds no certificates: {error}") from error
    if len(certificates) != data.count(b"-----BEGIN "):
        raise Refused(f"{origin} holds something else than whole certificates")
    roots = {certificate for certificate in certificates if is_root(certificate)}
    for certificate in set(certificates) - roots:
        if not any(issued_by(certificate, root) for root in roots):
            raise Refused(f"{origin}: of no root in it: {describe(certificate)}")
    return roots


def is_root(certificate: x509.Certificate) -> bool:
    """Whether it is an authority, signed by itself."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca and issued_by(certificate, certificate)


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names match and the signature is the issuer's."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def still_valid(certificates: Iterable[x509.Certificate]) -> set[x509.Certificate]:
    now = datetime.datetime.now(datetime.UTC)
    return {entry for entry in certificates if entry.not_valid_after_utc > now}


def common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def describe(certificate: x509.Certificate) -> str:
    return f"{common_name(certificate)}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}"


def order(certificate: x509.Certificate) -> tuple[str, bytes]:
    return describe(certificate), certificate.public_bytes(Encoding.DER)


def entry(certificate: x509.Certificate) -> str:
    return f"# {describe(certificate)}\n{certificate.public_bytes(Encoding.PEM).decode()}"


if __name__ == "__main__":
    sys.exit(main())
