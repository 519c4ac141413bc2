"""`operation: plan`: the matrix of a file that is right, and where the file may lie."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fleets import FILE, HEAD, SHOP, Workspace, faults
from tests.lab.stage import the_error
from tests.steps import green


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Nothing of AWS: a plan asks nobody."""
    return Workspace(tmp_path, {"AWS_EC2_METADATA_DISABLED": "true"})


def many(number: int, extra: str = "") -> str:
    return (
        HEAD
        + "databases:\n"
        + "".join(f"  - {{database: db{n}, group: g{n % 3}{extra}}}\n" for n in range(number))
    )


def test_each_database_is_a_row_with_the_defaults_and_its_own_inputs(workspace: Workspace) -> None:
    workspace.write(
        HEAD
        + """\
  jobs: 4
  password-secret-id: shared
databases:
  - database: shop
    jobs: 8
    verify: true
    tables: |
      public.orders
      public.items
  - name: the CRM
    group: eu
    database: crm
    password-secret-id: ""
    iam-auth: true
"""
    )

    shop, crm = workspace.rows()

    common = {
        "aws-region": "eu-central-1",
        "bucket": "my-company-pg-backups",
        "host": "db.example.org",
        "user": "backup",
    }
    assert {
        **common,
        "name": "shop",
        "database": "shop",
        "jobs": "8",
        "password-secret-id": "shared",
        "verify": "true",
        "tables": "public.orders\npublic.items\n",
    } == shop
    # An empty text takes a default away.
    assert {
        **common,
        "name": "the CRM",
        "group": "eu",
        "database": "crm",
        "jobs": "4",
        "iam-auth": "true",
    } == crm


@pytest.mark.parametrize("nothing", ["", '""', "~", "null"])
def test_nothing_takes_a_default_away(workspace: Workspace, nothing: str) -> None:
    workspace.write(
        f"{HEAD}  kms-key-id: alias/backups\n  group: {nothing}\n"
        f"databases:\n  - database: shop\n    kms-key-id: {nothing}\n    jobs: {nothing}\n"
    )

    (row,) = workspace.rows()

    assert {"name", "database", "aws-region", "bucket", "host", "user"} == set(row)


def test_defaults_may_be_left_empty(workspace: Workspace) -> None:
    workspace.write("defaults:\ndatabases:\n  - {database: shop, host: a, user: b}\n")

    (row,) = workspace.rows(bucket="my-company-pg-backups", aws_region="eu-central-1")

    assert "shop" == row["name"]


def test_the_summary_shows_every_database(workspace: Workspace) -> None:
    workspace.write(SHOP + "    group: eu\n    prefix: other\n")

    run = workspace.plan()

    assert f"1 database in {FILE}" in run.summary.replace("\\", "")
    row = "| shop | eu | shop | db.example.org | s3://my-company-pg-backups/other |"
    assert row in run.summary


def test_a_value_is_its_text_as_it_was_written(workspace: Workspace) -> None:
    """YAML 1.1 would make false, 8, a date, 3661 and infinity of these."""
    names = ["no", "010", "2026-11-22", "1:01:01", ".inf", "0x1F", "~", "null"]
    quoted = {"~", "null"}
    workspace.write(
        HEAD
        + "databases:\n"
        + "".join(f"  - database: {f'{n!r}' if n in quoted else n}\n" for n in names)
    )

    assert names == [row["database"] for row in workspace.rows()]


def test_anchors_and_merge_keys_are_understood(workspace: Workspace) -> None:
    workspace.write(
        HEAD
        + """\
databases:
  - &shop
    database: shop
    tags: &tags "a=b"
    jobs: 8
  - <<: *shop
    database: crm
    jobs: 3
  - <<: [{jobs: 5}, *shop]
    database: zoo
    object-tags: *tags
"""
    )

    rows = {row["name"]: row for row in workspace.rows()}

    assert {"shop": "8", "crm": "3", "zoo": "5"} == {name: rows[name]["jobs"] for name in rows}
    assert {"a=b"} == {rows[name]["tags"] for name in rows} | {rows["zoo"]["object-tags"]}


def test_a_group_is_planned_by_itself(workspace: Workspace) -> None:
    workspace.write(SHOP + "    group: eu\n  - database: crm\n    group: us\n  - database: zoo\n")

    assert ["crm"] == [row["name"] for row in workspace.rows(fleet_group="us")]
    assert ["shop", "crm", "zoo"] == [row["name"] for row in workspace.rows()]
    error = the_error(workspace.plan(fleet_group="uss"), "no database of group 'uss'", "eu, us")
    assert "fleet-group: us" in error


def test_a_database_that_no_group_takes_in_is_told_of(workspace: Workspace) -> None:
    """Group by group it would be in no run, and nothing would be red."""
    workspace.write(SHOP + "    group: eu\n  - database: crm\n    group: us\n  - database: zoo\n")

    (warning,) = green(workspace.plan(fleet_group="us")).warnings

    assert "1 database of .github/pg-backups.yml in no group" == warning.title
    assert "zoo" in warning.message
    assert "shop" not in warning.message  # eu has a run of its own
    assert [] == green(workspace.plan()).warnings


def test_what_every_job_is_given_may_be_given_to_the_plan(workspace: Workspace) -> None:
    workspace.write("databases:\n  - database: shop\n    host: db.example.org\n    user: backup\n")

    (row,) = workspace.rows(bucket="my-company-pg-backups", aws_region="eu-central-1")

    assert {"name", "database", "host", "user"} == set(row)
    lacking = faults(workspace.plan())
    assert [f"{FILE}:2: shop: aws-region: is missing", f"{FILE}:2: shop: bucket: is missing"] == [
        each.partition(";")[0] for each in lacking
    ]


def test_a_matrix_of_256_is_whole_and_one_of_257_needs_groups(workspace: Workspace) -> None:
    workspace.write(many(256))
    assert 256 == len(workspace.rows())

    workspace.write(many(257))
    run = workspace.plan()

    assert 2 == run.exit_code
    error = the_error(run, f"257 databases in {FILE}, and a matrix takes 256", "86 in g0")
    assert "fleet-group: g0" in error
    assert 86 == len(workspace.rows(fleet_group="g0"))


def test_a_matrix_that_no_output_can_hold_is_refused(workspace: Workspace) -> None:
    workspace.write(f"{HEAD}  exclude-tables: {'x' * 3000}\n" + many(200).removeprefix(HEAD))

    run = workspace.plan()

    assert 2 == run.exit_code
    the_error(run, "longer than an output may be", "fleet-group")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"fleet_file": "/etc/passwd"}, ["fleet-file: '/etc/passwd' is outside the workspace"]),
        ({"fleet_file": "../x.yml"}, ["fleet-file: '../x.yml' is outside the workspace"]),
        ({"fleet_file": "link.yml"}, ["link.yml leads out of the workspace"]),
        ({"fleet_file": "loop.yml"}, ["cannot read loop.yml"]),
        ({"fleet_file": "pipe.yml"}, ["pipe.yml is no file"]),
        ({"fleet_file": "folder"}, ["folder is no file"]),
        ({"fleet_file": "none.yml"}, ["there is no none.yml", "actions/checkout"]),
        ({"database": "shop"}, ["database: is given, and the fleet's file names the databases"]),
        ({"jobs": "many"}, ["jobs: 'many' will not do"]),
    ],
)
def test_a_file_that_cannot_be_is_refused(
    workspace: Workspace, inputs: dict[str, str], words: list[str]
) -> None:
    workspace.write(SHOP)
    (workspace.folder / "link.yml").symlink_to("/etc/passwd")
    (workspace.folder / "loop.yml").symlink_to("loop.yml")
    (workspace.folder / "folder").mkdir()
    os.mkfifo(workspace.folder / "pipe.yml")

    run = workspace.plan(**inputs)

    assert 2 == run.exit_code, run.output
    the_error(run, *words)


def test_a_workspace_without_a_checkout_is_told_what_to_add(workspace: Workspace) -> None:
    run = workspace.plan()

    assert 2 == run.exit_code
    the_error(run, f"there is no {FILE}", "the workspace is empty", "actions/checkout")


def test_a_link_inside_of_the_workspace_is_followed(workspace: Workspace) -> None:
    workspace.write(SHOP, "databases/fleet.yml")
    (workspace.folder / "fleet.yml").symlink_to("databases/fleet.yml")

    (row,) = workspace.rows(fleet_file="fleet.yml")

    assert "shop" == row["name"]


def test_the_matrix_is_one_line_of_ascii(workspace: Workspace) -> None:
    workspace.write(HEAD + 'databases:\n  - database: "éléphant 🐘\\u2028"\n    name: é\n')

    run = workspace.plan()

    matrix = run.outputs["matrix"]
    assert matrix.isascii() and 1 == len(matrix.splitlines())
    assert "éléphant 🐘\u2028" == json.loads(matrix)["include"][0]["database"]
