"""The page on the doctor names every check, in the order in which they are made."""

from __future__ import annotations

import re

from backup.operations.auditing.setup_course import Step
from tests.lab.aws import REPOSITORY


def test_the_page_has_a_row_for_each_check_in_their_order() -> None:
    page = (REPOSITORY / "docs/setup.md").read_text()
    assert [step.id for step in Step] == re.findall(r"^\| `(setup\.[a-z-]+)` \|", page, re.M)
