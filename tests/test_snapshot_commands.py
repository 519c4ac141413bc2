"""The commands in a snapshot's summary, run as a person would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.lab.cloud import Cloud
from tests.lab.runner import ActionRun
from tests.lab.scripted.server import ScriptedAws
from tests.snapshots import run, thing
from tests.steps import green

AWSCLI = Path(sys.executable).with_name("aws")


def test_the_commands_of_the_summary_make_an_instance_like_the_old_one(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    made = green(run(cloud, scripted, "snapshot"))

    shell(commands(made), scripted)

    restored = thing(scripted, "shop-restored", kind="db").description
    old = thing(scripted, "shop", kind="db").description
    for same in ("DBInstanceClass", "VpcSecurityGroups", "DBParameterGroups", "MultiAZ"):
        assert old[same] == restored[same], same
    assert (
        old["DBSubnetGroup"]["DBSubnetGroupName"]
        == (restored["DBSubnetGroup"]["DBSubnetGroupName"])
    )
    assert (True, False) == (restored["DeletionProtection"], restored["PubliclyAccessible"])


def test_the_commands_of_the_summary_make_a_cluster_with_its_members(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_cluster("ledger", members=2)
    made = green(run(cloud, scripted, "snapshot", db_cluster="ledger"))

    shell(commands(made), scripted)

    restored = thing(scripted, "ledger-restored", kind="cluster").description
    assert 2 == len(restored["DBClusterMembers"])
    assert restored["DeletionProtection"]


def commands(made: ActionRun) -> str:
    found = re.search(r"```sh\n(.*?)```", made.summary, re.DOTALL)
    assert found
    return found[1]


def shell(script: str, scripted: ScriptedAws) -> None:
    """Run lines of the summary as a person would, in a world where nothing takes time."""
    scripted.rds.pace.seconds_per_state = 0.0
    environment = {
        "PATH": f"{AWSCLI.parent}:{os.environ['PATH']}",
        "HOME": "/nonexistent",
        "AWS_ENDPOINT_URL": scripted.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, check=True, timeout=120
    )
