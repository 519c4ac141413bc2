"""Steps of the doctor: from the host's name to TLS, each by itself."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from backup.aws.rds import is_rds_host
from backup.checks import Check
from backup.operations.auditing.setup_course import Course, Step, failed, passed, warned
from backup.postgres.connection import Source
from backup.postgres.reaching import (
    OTHER_ADDRESS,
    Reached,
    ServerTls,
    Way,
    find_ways,
    look_at_tls,
    reach,
    roots_of,
)
from backup.wording import duration

_SOON = timedelta(days=30)
# X509_V_ERR_… of OpenSSL's include/openssl/x509_vfy.h.in.
_EXPIRED, _NOT_YET, _OTHER_NAME = 10, 9, 62

_THREE_WAYS = """\
the runner has to be where the database can be reached. Three ways:
1. a runner inside the VPC, best: a CodeBuild project in its private subnets,
   runs-on: codebuild-pg-backup-${{ github.run_id }}-${{ github.run_attempt }}
   or a self-hosted runner there: runs-on: [self-hosted, linux, vpc]
2. an SSH server that reaches it:
   tunnel: ssh://ec2-user@bastion.example.org:22
   tunnel-secret-id: pg-backup/tunnel
   tunnel-host-key: ssh-ed25519 AAAA…
3. the image as a task of ECS in the VPC, started by the workflow: aws ecs run-task
docs/network.md of the action has each of them whole. Then let it in:"""


def look_at_way(course: Course, source: Source, environment: Mapping[str, str]) -> None:
    """The name, the addresses, and what answers there; the checks say how far the way is open."""
    ways = course.look(Step.DNS, lambda: find_ways(source), lambda told: _told_names(source, told))
    reached: list[Reached] = []
    if course.ready(Step.TCP, Step.DNS):
        # At the same time, for each that is silent takes seconds.
        with ThreadPoolExecutor() as threads:
            asks = bool(source.forwards)
            reached = list(threads.map(lambda way: reach(way, asks=asks), ways or ()))
        course.add(_told_network(source, reached, environment))
    if course.ready(Step.TLS, Step.TCP):
        way = next(each.way for each in reached if each.error is None)
        _look_at_tls(course, source, way, is_near=way.is_loopback and not source.forwards)


def _told_names(source: Source, ways: Sequence[Way]) -> Check:
    if source.forwards:
        return passed(Step.DNS, f"{source.host}: the SSH server at the tunnel's end looks it up")
    addresses = ", ".join(_shown(way) for way in ways)
    return passed(Step.DNS, f"{source.host}: {addresses}")


def _shown(way: Way) -> str:
    if way.is_loopback:
        return f"{way.address} (this machine)"
    return f"{way.address} ({'private' if way.is_private else 'public'})"


def _told_network(
    source: Source,
    reached: Sequence[Reached],
    environment: Mapping[str, str],
) -> Check:
    good = [each for each in reached if each.error is None]
    bad = [each for each in reached if each.error is not None]
    failures = ", ".join(f"{each.way.address} {_why(each)}" for each in bad)
    if good and source.forwards:
        return passed(Step.TCP, "the server answers through the tunnel")
    if good:
        first = good[0]
        told = f"{first.way.address} port {first.way.port} answers in {duration(first.seconds)}"
        return passed(Step.TCP, f"{told}; not so: {failures}" if bad else told)
    where = f"{source.host} port {source.port}"
    if source.forwards:
        return failed(
            Step.TCP,
            f"the SSH server does not reach {where} ({failures}); the log has what ssh says",
            "where ssh says “administratively prohibited”, in its sshd_config: AllowTcpForwarding"
            " local, and no PermitOpen that leaves the database out; else check host and port, and"
            f" let the SSH server in:\n{_let_in(source, 'sg-OF-THE-SSH-SERVER')}",
        )
    if all(_is_refused(each) for each in bad):
        return failed(
            Step.TCP,
            f"nothing listens on {where} ({failures})",
            "correct port, start the server, and let it listen on more than localhost:"
            " ALTER SYSTEM SET listen_addresses = '*'; a service container is reached by its"
            " label as host, and the port inside it",
        )
    told = f"no answer from {where} ({failures}): packets are dropped on the way"
    if all(each.way.is_private for each in bad):
        told += "; its address is private, so it can be reached from inside its network only"
        if environment.get("RUNNER_ENVIRONMENT") == "github-hosted":
            told += ", and this runner is GitHub's, which is outside"
    let_in = _let_in(source, "sg-OF-THE-RUNNER")
    return failed(Step.TCP, told, f"{_THREE_WAYS}\n{let_in}")


def _let_in(source: Source, group: str) -> str:
    port = source.port.split(",")[0]
    return (
        "aws ec2 authorize-security-group-ingress --group-id sg-OF-THE-DATABASE"
        f" --protocol tcp --port {port} --source-group {group}"
    )


def _is_refused(reached: Reached) -> bool:
    return isinstance(reached.error, ConnectionRefusedError | FileNotFoundError)


def _why(reached: Reached) -> str:
    error = reached.error
    if isinstance(error, TimeoutError):
        return f"silent for {duration(reached.seconds)}"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if error is not None and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "no route"
    return str(error)


def _look_at_tls(course: Course, source: Source, way: Way, *, is_near: bool) -> None:
    mode = source.sslmode
    roots = roots_of(source)
    if way.is_socket:
        course.add(passed(Step.TLS, "not used on a socket of this machine"))
        return
    if mode == "disable":
        course.add(_unencrypted(source, "sslmode is disable", is_near=is_near))
        return
    checks_name = mode != "verify-ca"
    course.look(
        Step.TLS,
        lambda: look_at_tls(way, source, roots=roots, checks_name=checks_name),
        lambda shown: judge_tls(source, shown, is_near=is_near, now=datetime.now(UTC)),
    )


def judge_tls(source: Source, shown: ServerTls, *, is_near: bool, now: datetime) -> Check:
    """What the server's TLS is worth under the sslmode that is in force."""
    mode = source.sslmode
    if not shown.protocol:
        if mode in ("allow", "prefer"):
            return _unencrypted(source, "the server has no TLS", is_near=is_near)
        return failed(
            Step.TLS,
            f"the server has no TLS, and sslmode is {mode}",
            "turn it on at the server: ALTER SYSTEM SET ssl = on; with ssl_cert_file and"
            " ssl_key_file; only where the network itself is trusted: sslmode: prefer",
        )
    about = f"{shown.protocol}{_about(shown)}"
    if mode.startswith("verify-"):
        if shown.problem:
            return failed(Step.TLS, f"{about}: {shown.problem}", _mend(source, shown))
        return _valid(shown, f"{about}; believed with sslmode {mode}", now)
    if is_near:
        return passed(Step.TLS, f"{about}; nothing is checked on this machine's own network")
    unchecked = f"{about}; encrypted, but sslmode {mode} does not check who answers"
    if not shown.problem:
        return warned(Step.TLS, f"{unchecked}, and it would pass", "sslmode: verify-full")
    return warned(Step.TLS, f"{unchecked} ({shown.problem})", _mend(source, shown))


def _about(shown: ServerTls) -> str:
    found = shown.certificate
    if not found:
        return ""
    return (
        f", certificate of {', '.join(found.names) or found.subject}, issued by {found.issuer},"
        f" good until {found.until:%Y-%m-%d}"
    )


def _valid(shown: ServerTls, told: str, now: datetime) -> Check:
    if shown.certificate and shown.certificate.until - now < _SOON:
        return warned(Step.TLS, f"{told}; that is soon", _RENEW)
    return passed(Step.TLS, told)


_RENEW = (
    "renew the server's certificate; of RDS: aws rds modify-db-instance --db-instance-identifier"
    " NAME --ca-certificate-identifier rds-ca-rsa2048-g1 --apply-immediately"
)


def _mend(source: Source, shown: ServerTls) -> str:
    names = shown.certificate.names if shown.certificate else ()
    if shown.code in (_OTHER_NAME, OTHER_ADDRESS) and names:
        return f"name the server as its certificate does: host: {names[0]}"
    if shown.code == _EXPIRED:
        return _RENEW
    if shown.code == _NOT_YET:
        return "the certificate is not valid yet: compare the clocks of this machine and its issuer"
    if is_rds_host(source.host):
        return (
            "use the newest release, whose image has the newest roots of RDS; or in a step before:"
            " curl -fsSo roots.pem https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
            " and add ?sslmode=verify-full&sslrootcert=/github/workspace/roots.pem to database-url"
        )
    return (
        "put the certificate of the server's authority into the repository as roots.pem, and"
        " add to database-url: ?sslmode=verify-full&sslrootcert=/github/workspace/roots.pem"
    )


def _unencrypted(source: Source, why: str, *, is_near: bool) -> Check:
    if is_near:
        return passed(Step.TLS, f"{why}; the server is on this machine, and nothing leaves it")
    return warned(
        Step.TLS,
        f"{why}: the data crosses the network in the clear (sslmode {source.sslmode})",
        "turn TLS on at the server (ALTER SYSTEM SET ssl = on; of RDS: rds.force_ssl = 1), and set"
        " sslmode: verify-full",
    )
