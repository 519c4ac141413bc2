"""The built image, run as the runner runs it: PID 1, its workspace, its HOME, a hostile job."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import by_hand
from tests.conftest import MAJORS
from tests.lab.cloud import Cloud, listing, reading, source_inputs, writing
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_image, start_image
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sshd import Sshd, sshd_is_missing
from tests.lab.tcp import TcpProxy
from tests.snapshots import allow_reading
from tests.snapshots import env as snapshot_env
from tests.steps import database_named, drop_roles, fill_with_chance, forget, green
from tests.tunnels import INSTANCE, allow_all, assert_key_unseen, keep_secret

pytestmark = pytest.mark.image

EVERYTHING = Path(__file__).with_name("everything.sql")


def inside(image: str, script: str) -> str:
    """What a shell in the image prints."""
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "/bin/sh"]
    result = subprocess.run(
        [*command, image, "-c", script], capture_output=True, text=True, check=True
    )
    return result.stdout


@pytest.fixture(scope="module")
def majors(image: str) -> list[int]:
    """Of the clients in the image."""
    return [int(name) for name in inside(image, "ls /usr/lib/postgresql").split()]


def test_the_image_has_every_program_of_its_clients_and_each_runs(
    image: str, majors: list[int]
) -> None:
    programs = ("pg_amcheck", "pg_dump", "pg_dumpall", "pg_restore", "psql")
    for major in majors:
        folder = f"/usr/lib/postgresql/{major}/bin"
        told = inside(image, "; ".join(f"{folder}/{name} --version" for name in programs))
        expected = [f"{name} (PostgreSQL) {major}" for name in programs]
        assert expected == [line.split(".")[0] for line in told.splitlines()]


def test_the_image_has_the_clients_of_every_supported_major(majors: list[int]) -> None:
    missing = sorted(set(MAJORS) - set(majors))
    if missing and {15, 17, 18} == set(majors):
        pytest.skip(
            f"this image was built from Debian's own suites, which have no clients {missing}: the"
            " workflow `test` builds it from apt.postgresql.org"
        )
    assert [] == missing


# One server of each major that the image has, with what a drill needs of it.
THROWAWAY = """
import sys
sys.path.insert(0, "/app")
from pathlib import Path
from backup.postgres.connection import connect
from backup.postgres.locales import create_like
from backup.postgres.servers import installed_servers
from backup.postgres.throwaway import throwaway_server

like = "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'sv_SE.UTF-8';"
for programs in installed_servers({}):
    with throwaway_server(programs, Path("/tmp")) as server:
        made = create_like(server, "shop", "UTF8", like)
        with connect(made.source) as connection:
            connection.execute("CREATE EXTENSION pg_trgm; CREATE EXTENSION xml2")
            connection.execute('CREATE COLLATION odd (provider = icu, locale = "de-AT")')
            query = "SELECT string_agg(x, '' ORDER BY x) FROM unnest('{ä,z}'::text[]) x"
            print(programs.major, *connection.execute(query).fetchone(), *made.notes)
print(*Path("/tmp").iterdir())
"""


def test_the_image_has_the_servers_of_every_supported_major(image: str, majors: list[int]) -> None:
    found = inside(image, "ls -d /usr/lib/postgresql/*/bin/initdb")
    servers = [int(path.split("/")[4]) for path in found.split()]
    if {15, 17} == set(servers) and {15, 17, 18} == set(majors):
        pytest.skip(
            "this image was built from Debian's own suites, whose server 18 runs on a later one"
            " alone: the workflow `test` builds it from apt.postgresql.org"
        )
    assert list(MAJORS) == sorted(servers)


@pytest.mark.parametrize(
    "way",
    [[], ["--user", "1001:1001"], ["--read-only", "--tmpfs", "/tmp:mode=1777"]],  # noqa: S108
    ids=["as the runner", "as nobody known", "on a system that is read-only"],
)
def test_throwaway_servers_of_every_major_start_in_the_image(image: str, way: list[str]) -> None:
    python = ["--entrypoint", "/opt/venv/bin/python", image, "-E", "-s", "-c", THROWAWAY]
    run = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", *way, *python],
        capture_output=True,
        text=True,
    )
    majors = [
        path.split("/")[4]
        for path in inside(image, "ls -d /usr/lib/postgresql/*/bin/initdb").split()
    ]
    assert "" == run.stderr
    assert [*(f"{major} zä" for major in majors), ""] == run.stdout.splitlines()


SUPPLY = """
import sys
sys.path.insert(0, "/app")
from pathlib import Path
from backup.model import Extension
from backup.postgres.connection import connect
from backup.postgres.extensions import supply
from backup.postgres.servers import choose_server, installed_servers
from backup.postgres.throwaway import throwaway_server

wanted = [Extension(name, "1", "public") for name in ("pg_tiny", "heavy", "unheard_of")]
with throwaway_server(choose_server(17, installed_servers({})), Path("/tmp")) as server:
    supplied = supply(server, wanted)
    print(*supplied.fetched)
    for name, why in supplied.stubbed:
        print(f"{name}: {why}")
    with connect(server.source) as connection:
        connection.execute("CREATE EXTENSION pg_tiny")
        print(*connection.execute("SELECT tiny()").fetchone())
"""


def add_package(
    repository: Path, name: str, version: str, depends: str, files: dict[str, str]
) -> None:
    """A Debian package, and its paragraph in the repository's index."""
    tree = repository / f"tree-{name}"
    control = {
        "Package": name,
        "Version": version,
        "Architecture": "all",
        "Maintainer": "none <none@example.org>",
        **({"Depends": depends} if depends else {}),
        "Description": "made for a test",
    }
    lines = "".join(f"{field}: {value}\n" for field, value in control.items())
    for path, text in (files | {"DEBIAN/control": lines}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    archive = repository / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", tree, archive], check=True, capture_output=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with (repository / "Packages").open("a") as index:
        index.write(f"{lines}Filename: ./{archive.name}\nSize: {archive.stat().st_size}\n")
        index.write(f"SHA256: {digest}\n\n")


@pytest.mark.skipif(
    not shutil.which("dpkg-deb"), reason="needs dpkg-deb, as Debian and Ubuntu have"
)
def test_an_extension_that_is_missing_is_fetched_with_what_it_needs(
    image: str, tmp_path: Path
) -> None:
    share = "usr/share/postgresql/17/extension"
    server = "postgresql-17, postgresql-17-jit-llvm (>= 14)"
    tiny = {
        f"{share}/pg_tiny.control": "default_version = '1'\n",
        f"{share}/pg_tiny--1.sql": "CREATE FUNCTION tiny() RETURNS text LANGUAGE sql"
        " AS $$ SELECT '/lib/' || pg_ls_dir('../packages/lib') $$;",
    }
    add_package(tmp_path, "postgresql-17-tiny", "1", f"{server}, needed", tiny)
    add_package(tmp_path, "needed", "1", "", {"usr/lib/x/libneeded.so.1": ""})
    add_package(tmp_path, "postgresql-17-heavy", "1", f"{server}, libc-bin (>= 9:99)", {})
    add_package(tmp_path, "libc-bin", "9:99", "", {})
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "test.list").write_text("deb [trusted=yes allow-insecure=yes] copy:/repository ./\n")
    volumes = ["-v", f"{tmp_path}:/repository:ro", "-v", f"{sources}:/etc/apt/sources.list.d:ro"]
    python = ["--entrypoint", "/opt/venv/bin/python", image, "-E", "-s", "-c", SUPPLY]
    run = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", *volumes, *python],
        capture_output=True,
        text=True,
    )
    fetched, heavy, unheard, called = run.stdout.splitlines()
    assert "pg_tiny" == fetched
    assert heavy.startswith("heavy: postgresql-17-heavy is for another system")
    assert "unheard_of: no package has it" == unheard
    assert "/lib/libneeded.so.1" == called
    assert "" == run.stderr


def test_the_image_holds_nothing_that_installs_or_compiles(image: str) -> None:
    unwanted = ("pip", "pip3", "gcc", "cc", "make", "git", "curl", "wget", "pg_wrapper")
    found = inside(image, f"for name in {' '.join(unwanted)}; do command -v $name || true; done")
    assert "" == found
    assert "" == inside(image, "ls /opt/venv/bin | grep -i pip || true")
    packages = inside(image, "dpkg-query --show --showformat '${Package}\\n'").split()
    assert {"perl", "perl-modules-5.40", "postgresql-client-common"}.isdisjoint(packages)
    assert "" == inside(image, "ls /var/lib/apt/lists /app | grep -v -e app: -e lists: -e '^$'"
                               " -e entrypoint.py -e backup -e __pycache__ || true")  # fmt: skip


@pytest.fixture
def hostile_workspace(tmp_path: Path) -> Path:
    """A checked-out repository that brings programs and modules of ours and of others."""
    workspace = tmp_path / "workspace"
    programs, modules = workspace / "bin", workspace / "modules"
    programs.mkdir(parents=True)
    for name in ("pg_dump", "pg_dumpall", "psql", "python", "python3", "sh"):
        script = programs / name
        script.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 17.99" && exit\n'
            "echo ran >/github/files/hostile; exit 1\n"
        )
        script.chmod(0o755)
    for folder in (workspace, modules):
        for name in ("backup", "botocore", "psycopg", "sitecustomize", "usercustomize"):
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("raise SystemExit(77)\n")
    return workspace


def test_a_backup_by_the_image_restores_equal_whatever_the_job_puts_in_its_way(
    image: str,
    majors: list[int],
    postgres: PostgresServer,
    cloud: Cloud,
    tmp_path: Path,
    hostile_workspace: Path,
) -> None:
    ((version,),) = postgres.sql("SHOW server_version")
    if int(version.split(".")[0]) not in majors:
        pytest.skip(
            f"the image has no client of {version}, with which the result is compared: an image"
            " from apt.postgresql.org has, and `make test` brings a server 17"
        )
    with PostgresServer(postgres.binaries) as server:
        database_named(server, "shop", EVERYTHING.read_text())
        fill_with_chance(server, "shop", "kinds.bulk", 10)
        with start_image(
            image,
            cloud.inputs | source_inputs(server, "shop"),
            cloud.env
            | {
                "PYTHONPATH": "/github/workspace/modules",
                "PYTHONSTARTUP": "/github/workspace/backup/__init__.py",
                "PYTHONHOME": "/nowhere",
                "PGHOST": "nowhere.invalid",
                "PGSERVICE": "nowhere",
                "PGOPTIONS": "-c search_path=nowhere",
                "LC_ALL": "nowhere",
            },
            job_path="/github/workspace/bin:/usr/bin:/bin",
            workspace=hostile_workspace,
        ) as running:
            run = running.finish()
            assert not (running.home / "files/hostile").exists(), "the job's programs were run"
        before, roles_before = by_hand.plain(server, "shop"), by_hand.roles(server)
        green(run)
        forget(server, "shop")
        drop_roles(server)
        shell = by_hand.shell(tmp_path, server, cloud)
        for line in by_hand.restore_lines(run):
            shell.run(line)
        after, roles_after = by_hand.plain(server, "restored"), by_hand.roles(server)

    assert "" == by_hand.first_difference(before, after)
    assert "" == by_hand.first_difference(roles_before, roles_after)
    (manifest,) = cloud.manifests().values()
    assert "17.99" != manifest["client"]["version"]
    assert {"backup-id", "s3-uri"} <= run.outputs.keys()


def test_the_image_drills_its_backup_and_restores_it(
    image: str, cloud: Cloud, postgres: PostgresServer
) -> None:
    """In one run with the backup, on a server of its own; then into a new database."""
    bucket = cloud.bucket
    cloud.allow(writing(bucket), listing(bucket), reading(bucket))
    name = database_named(postgres, "shop 🐘", EVERYTHING.read_text())
    # So large that it is streamed, which not every pg_restore takes in every form.
    postgres.sql("CREATE TABLE noise (block bytea)", name)
    fill_with_chance(postgres, name, "noise", 16)
    source = source_inputs(postgres, name)
    forget(postgres, "again")

    made = green(run_image(image, cloud.inputs | source | {"verify": "true"}, cloud.env))
    inputs = {"operation": "restore", "target-database": "again", "create-database": "true"}
    restored = green(run_image(image, cloud.inputs | source | inputs, cloud.env))

    assert ("true", "proven") == (made.outputs["verified"], made.outputs["verdict"])
    assert "same bytes" in made.summary
    assert "0 fatal, 0 degraded" in restored.summary
    before, after = by_hand.plain(postgres, name), by_hand.plain(postgres, "again")
    forget(postgres, name)
    forget(postgres, "again")
    drop_roles(postgres)
    assert "" == by_hand.first_difference(before, after)


@pytest.mark.parametrize(
    ("sent", "code", "within"), [(signal.SIGTERM, 143, 2.5), (signal.SIGINT, 130, 7.5)]
)
def test_a_cancelled_container_ends_in_time_and_leaves_nothing(
    image: str,
    postgres: PostgresServer,
    cloud: Cloud,
    sent: signal.Signals,
    code: int,
    within: float,
) -> None:
    name = database_named(postgres, f"cancelled {code}", "CREATE TABLE noise (block bytea)")
    fill_with_chance(postgres, name, "noise", 16)
    with TcpProxy(postgres.port, bandwidth=10e6) as slow:
        inputs = cloud.inputs | source_inputs(postgres, name, port=str(slow.port))
        with start_image(image, inputs, cloud.env) as running:
            running.wait_for("Dump and upload")
            deadline = time.monotonic() + 30
            while not cloud.proxy.seen("PUT", "partNumber=") and time.monotonic() < deadline:
                time.sleep(0.02)
            began = time.monotonic()
            running.send(sent)
            run = running.finish()
            took = time.monotonic() - began
    time.sleep(0.2)
    sessions = postgres.sql(
        f"SELECT query FROM pg_stat_activity WHERE datname = 'cancelled {code}'"
    )
    forget(postgres, name)

    assert code == run.exit_code, run.output
    # The docker client takes a part of a second to notice the end.
    assert took < within + 1
    (error,) = run.errors
    assert f"interrupted by {sent.name}" == error.title
    assert [] == run.leftovers
    assert [] == sessions
    assert {} == cloud.objects()
    assert [] == cloud.open_uploads()
    left = subprocess.run(
        ["docker", "ps", "--all", "--filter", f"ancestor={image}", "--format", "{{.Names}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"lab-{running.marker}" not in left.stdout


@pytest.mark.skipif(bool(sshd_is_missing()), reason=sshd_is_missing())
@pytest.mark.parametrize("way", ["a key from a secret", "EC2 Instance Connect"])
def test_the_image_backs_up_through_a_tunnel(
    image: str,
    majors: list[int],
    postgres: PostgresServer,
    cloud: Cloud,
    scripted: ScriptedAws,
    way: str,
) -> None:
    ((version,),) = postgres.sql("SHOW server_version")
    if int(version.split(".")[0]) not in majors:
        pytest.skip(f"the image has no client of {version}: an image from apt.postgresql.org has")
    name = database_named(postgres, "tunnelled", "CREATE TABLE t AS SELECT 1 AS x")
    allow_all(cloud)
    with Sshd() as sshd:
        inputs = cloud.inputs | source_inputs(postgres, name) | sshd.inputs
        if way == "EC2 Instance Connect":
            sshd.authorize()
            scripted.network.let_in = lambda pushed: sshd.authorize(pushed.public_key)
            inputs |= {"tunnel-instance-id": INSTANCE}
        else:
            inputs |= {"tunnel-secret-id": keep_secret(cloud, sshd.key.private)}
        env = {"AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": scripted.url}
        run = green(run_image(image, inputs, cloud.env | env))

        assert 5 <= sshd.forwarded(postgres.port)
        assert_key_unseen(run, sshd.key)
    assert 1 == len(cloud.manifests())
    forget(postgres, name)


OPENSSH = """
import os
import sys
sys.path.insert(0, "/app")
from backup.errors import DumpError
from backup.ssh.keys import new_key, with_public
from backup.ssh.tunnel import SshServer, open_tunnel

pair = new_key(os.environ)
print(with_public(pair.private, os.environ) == pair)
nobody = SshServer("user", "127.0.0.1", 1, ("ssh-ed25519 AAAA",))
try:
    with open_tunnel(nobody, [("db", "5432")], lambda: pair, str, os.environ, pauses=()):
        print("opened")
except DumpError as error:
    print(error.message)
print(*os.listdir("/tmp"))
"""


@pytest.mark.parametrize("user", ["0:0", "1001:1001"], ids=["root", "as nobody known"])
def test_openssh_runs_in_the_image_whoever_the_user_is(image: str, user: str) -> None:
    python = ["--entrypoint", "/opt/venv/bin/python", image, "-E", "-s", "-c", OPENSSH]
    run = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--user", user, *python],
        capture_output=True,
        text=True,
    )
    told = ["True", "nothing listens on 127.0.0.1 port 1", ""]
    assert (told, "") == (run.stdout.splitlines(), run.stderr)


def test_of_openssh_the_image_has_only_what_a_tunnel_needs(image: str) -> None:
    there = "cd /usr/bin; ls -d ssh* scp sftp ../sbin/sshd ../lib/openssh 2>/dev/null || true"
    assert ["ssh", "ssh-keygen"] == inside(image, there).split()


def test_the_image_refuses_bad_inputs_as_the_program_does(image: str, cloud: Cloud) -> None:
    """Inputs with hyphens in their names arrive, which they would not behind a shell."""
    run = run_image(image, {"aws-region": "x", "role-to-assume": "y", "lock-timeout": "z"})

    assert 2 == run.exit_code
    told = set(re.findall(r"^([a-z-]+): ", run.errors[0].message, re.MULTILINE))
    assert {"aws-region", "role-to-assume", "lock-timeout", "bucket"} <= told
    assert [] == cloud.proxy.records


def test_the_image_takes_a_snapshot_makes_an_instance_of_it_and_audits(
    image: str, majors: list[int], cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer
) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.endpoint = ("127.0.0.1", postgres.port)
    allow_reading(cloud)
    database_named(postgres, "shop", "CREATE TABLE orders AS SELECT 1 AS id")
    given, job = cloud.inputs | {"db-instance": "shop"}, snapshot_env(cloud, scripted)
    login = {"database": "shop", "user": "postgres", "password": postgres.password}

    taken = green(run_image(image, given | {"operation": "snapshot"}, job))
    recover = {"operation": "restore-instance", "new-instance": "again", "sslmode": "disable"}
    made = green(run_image(image, given | recover | login, job))
    audit = {"operation": "audit", "fail-on": "never", "report-file": "reports/audit.json"}
    with start_image(image, given | audit, job) as running:
        audited = green(running.finish())
        told = json.loads((running.home / "workspace/reports/audit.json").read_text())
    forget(postgres, "shop")

    assert taken.outputs["snapshot-id"] in made.output
    assert "again" == made.outputs["new-instance-id"]
    # The server's major has its client in the image.
    client = {True: "pass", False: "fail"}[17 in majors]
    statuses = {each["id"]: each["status"] for each in told["checks"]}
    assert client == statuses["instance.client"]
    assert {"objectives", "instance", "bucket", "identity"} <= {
        id.partition(".")[0] for id in statuses
    }
    assert audited.outputs["verdict"] == told["verdict"]
