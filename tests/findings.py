"""What tests ask of the checks of an audit."""

from __future__ import annotations

from collections.abc import Iterable

from backup.checks import Check, Status


def status_by_id(checks: Iterable[Check]) -> dict[str, str]:
    """Each check's status by its id; only where no two have the same."""
    found = [(check.id, check.status.value) for check in checks]
    assert len(found) == len(dict(found)), found
    return dict(found)


def the_check(checks: Iterable[Check], id: str, title: str = "") -> Check:
    (found,) = [check for check in checks if check.id == id and title in check.title]
    return found


def assert_bad(check: Check, status: Status, *words: str) -> None:
    """A check that is not green says why, in these words, and how to mend it."""
    assert status is check.status, check
    assert check.fix.strip(), check
    for word in words:
        assert word in f"{check.reason}\n{check.fix}", check


def assert_denied(checks: Iterable[Check], ids: Iterable[str], permission: str) -> None:
    """These checks are unknown, and each names the permission that is missing."""
    found = {check.id: check for check in checks}
    for id in ids:
        assert_bad(found[id], Status.UNKNOWN, permission)
