"""The fleet's file: every fault of one that is wrong, with its line, and what is hostile in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleets import FILE, HEAD, SHOP, Workspace, faults


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Nothing of AWS: a plan asks nobody."""
    return Workspace(tmp_path, {"AWS_EC2_METADATA_DISABLED": "true"})


def told(workspace: Workspace, text: str | bytes, **inputs: str) -> list[str]:
    workspace.write(text)
    return faults(workspace.plan(**inputs))


def test_every_fault_of_a_file_is_told_with_its_line(workspace: Workspace) -> None:
    found = told(
        workspace,
        """\
defaults:
  aws-region: eu-central-1
  bucket: My_Backups
  jobs: many
  name: x
  user: backup
databses: []
databases:
  - database: shop
    hots: a.example.org
  - database: shop
    host: x
    compression: zst
    jobs: 3
    jobs: 4
    tables: [a, b]
    operation: verify
  - host: b
  - just text
  - [a]
  - database: {a: b}
    host: [a, b]
""",
    )

    head = f"{FILE}:"
    assert [
        "3: defaults: bucket: 'My_Backups' is no bucket name; give the name alone, without s3://",
        "4: defaults: jobs: 'many' will not do; write a whole number from 1 to 64",
        "5: defaults: name: is of one database; move it there",
        "7: databses: is not known; did you mean databases?",
        "9: shop: host: is missing; name it, as in host: db.example.org",
        "10: shop: hots: is not an input of this action; did you mean host?",
        "11: shop: is the name of the one in line 9 too; give each its own, as in name: shop-eu",
        "13: shop: compression: 'zst' is not known; write zstd, zstd:3, gzip:6 or none",
        "15: database 2: jobs: is given in line 14 already; remove one of the two",
        "16: shop: tables: is a list; write several lines as one text, behind a bar: |",
        "17: shop: operation: is of a step, and not of a database; give it to the step:"
        " operation: …",
        "18: database 3: database is missing; name it, as in database: shop",
        "19: database 4: is no mapping; write key: value, one a line",
        "20: database 5: is no mapping; write key: value, one a line",
        "21: database 6: database: is no text; write a text, a number, true or false",
        "22: database 6: host: is a list; write several lines as one text, behind a bar: |",
    ] == [each.removeprefix(head) for each in found]


@pytest.mark.parametrize(
    ("secret", "remedy"),
    [
        ("password: hunter2", "password-secret-id: shop/backup"),
        ("database-url: postgresql://u:hunter2@h/d", "password-secret-id: shop/backup"),
        ("target-url: postgresql://u:hunter2@h/d", "target-url: ${{ secrets.TARGET_URL }}"),
        ("webhook-url: https://hooks.slack.com/hunter2", "webhook-url: ${{ secrets.WEBHOOK_URL }}"),
        ("webhook-secret: hunter2", "webhook-secret: ${{ secrets.WEBHOOK_SECRET }}"),
        ("github-token: hunter2", "github-token: ${{ github.token }}"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_shown(
    workspace: Workspace, secret: str, remedy: str
) -> None:
    workspace.write(SHOP + f"    {secret}\n")

    run = workspace.plan()

    (line,) = faults(run)
    assert line.startswith(f"{FILE}:8: shop: {secret.partition(':')[0]}: is a secret")
    assert remedy in line
    assert "hunter2" not in run.output + run.summary


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "is empty; write databases:"),
        ("# nothing yet\n", 1, "is empty"),
        ("just text\n", 1, "is no mapping"),
        ("- database: shop\n", 1, "is no mapping"),
        ("defaults: {}\n", 1, "databases: is missing"),
        ("databases:\n", 1, "databases: is no list"),
        ("databases: []\n", 1, "databases: has no database"),
        ("databases:\n  shop: {}\n", 1, "databases: is no list"),
        ("databases:\n\t- database: shop\n", 2, "a tab; indent with spaces"),
        ("databases:\n  - database: shop\n   host: x\n", 3, "is no YAML: "),
        ('databases:\n  - database: "shop\n', 3, "is no YAML: "),
        ("databases:\n  - database: a: b\n", 2, "mapping values are not allowed here"),
        ("databases: []\n---\ndatabases: []\n", 2, "leave one document in the file"),
        ("databases:\n  - password: *hunter2\n", 2, "undefined alias"),
        ("databases:\n  - database: a\n  - database: \x01\n", 3, "holds a control character"),
        (b"databases:\n  - database: caf\xe9\n", 2, "save the file in UTF-8"),
        ("databases: []\n".encode("utf-16"), 1, "save the file in UTF-8"),
        ("[" * 5000, 1, "is nested too deep"),
        ("a: &a\n  <<: *a\ndatabases: *a\n", 1, "a: is not known"),
        ("? [a]\n: b\ndatabases: []\n", 1, "a key is no text"),
        ("#" * (1 << 20) + "\n", 1, "is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_fleet_is_told_of_with_its_line(
    workspace: Workspace, text: str | bytes, line: int, words: str
) -> None:
    found = told(workspace, text)

    assert found[0].startswith(f"{FILE}:{line}: ")
    assert words in found[0]
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('name: "a\\nb"', "name: is no name that a job can have"),
        ('name: "\\u202Egnp.exe"', "name: is no name that a job can have"),
        (f"name: {'x' * 101}", "name: is no name that a job can have"),
        ('group: "a\\eb"', "group: is no group that a job can have"),
        ('host: "a\\0b"', "host: holds what is no character"),
        ('host: "a\\uD800b"', "host: holds what is no character"),
        ("host: !!python/object/apply:os.system [id]", "host: is a list"),
        ("host: !secret x", "host: is no text"),
        ('"a\\n::error::b": c', "'a\\n::error::b': is not an input"),
    ],
)
def test_a_hostile_text_is_refused(workspace: Workspace, entry: str, words: str) -> None:
    workspace.write(SHOP + f"    {entry}\n")

    run = workspace.plan()

    found = faults(run)
    assert [each for each in found if words in each and f"{FILE}:8: " in each], found
    assert 1 == len(run.errors)


def test_a_name_that_no_job_can_have_must_be_given_another(workspace: Workspace) -> None:
    workspace.write(HEAD + 'databases:\n  - database: "a\\nb"\n')
    (line,) = faults(workspace.plan())
    assert "name: is no name that a job can have; write name: with printable" in line

    workspace.write(HEAD + 'databases:\n  - database: "a\\nb"\n    name: ab\n')
    assert [("ab", "a\nb")] == [(row["name"], row["database"]) for row in workspace.rows()]


def test_backups_of_two_databases_must_not_lie_in_one_place(workspace: Workspace) -> None:
    two = SHOP + "  - database: shop\n    name: shop-us\n    host: us.example.org\n"
    workspace.write(two)

    (line,) = faults(workspace.plan())

    assert f"{FILE}:8: shop-us: its backups would lie among those of line 7" in line
    workspace.write(two + "    prefix: postgresql/us\n")
    assert ["shop", "shop-us"] == [row["name"] for row in workspace.rows()]


def test_a_billion_laughs_are_not_expanded(workspace: Workspace) -> None:
    laughs = "  a: &a0 {jobs: 1}\n" + "".join(
        f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
    )
    merged = "  - &m0 {database: shop}\n" + "".join(
        f"  - &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}], database: d{n}}}\n"
        for n in range(1, 40)
    )

    run = told(workspace, f"{HEAD}{laughs}databases:\n{merged}")

    assert 40 == len(run)  # a and a1 to a39 are no inputs; the merged mappings are fine


def test_many_faults_are_cut_short(workspace: Workspace) -> None:
    workspace.write(HEAD + "databases:\n" + "".join(f"  - hosts: {n}\n" for n in range(100)))

    run = workspace.plan()

    (error,) = run.errors
    assert "200 faults in" in error.title
    assert "and 150 more" in error.message
