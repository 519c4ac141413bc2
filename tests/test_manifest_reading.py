"""A manifest is read back as it was written, and a damaged one leads nowhere."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from backup.archive.manifest import decode, encode
from backup.errors import VerificationError
from tests.manifests import manifest_of

WHOLE = manifest_of()
CONTENT = encode(WHOLE)
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2.5, 10**30, 10**400, "", "x", "\0", [], [[]], {}, {"x": 1}
)  # fmt: skip


def refused(content: bytes) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        decode(content)
    assert 3 == len(caught.value.lines())
    return caught.value


def changed(change: Callable[[Any], object]) -> bytes:
    """The manifest as JSON, changed."""
    document = json.loads(CONTENT)
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "manifest",
    [
        WHOLE,
        replace(WHOLE, run=None, phases=(), selection=type(WHOLE.selection)()),
        replace(WHOLE, inventory=replace(WHOLE.inventory, relations=(), extensions=(), roles=())),
        replace(WHOLE, compression="none", snapshot=replace(WHOLE.snapshot, lsn="0/5E86968")),
    ],
    ids=["all", "least", "empty", "none"],
)
def test_what_was_written_is_read_back(manifest: Any) -> None:
    assert manifest == decode(encode(manifest))


def test_fields_of_later_versions_are_passed_over() -> None:
    content = changed(lambda it: (it.update(new=1), it["members"][0].update(new=[None])))

    assert WHOLE == decode(content)


def test_a_newer_format_asks_for_a_newer_version() -> None:
    error = refused(changed(lambda it: it.update(format=2)))

    assert "the manifest has format 2, and this version reads 1" == error.message


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda it: it.pop("inventory"), "inventory is missing"),
        (lambda it: it.update(format=0), "format is no whole number of 1 or more"),
        (lambda it: it.update(format="1"), "format is no whole number"),
        (lambda it: it.update(id="latest"), "id may not be 'latest'"),
        (lambda it: it["members"][0].update(size=-1), "members[0].size is no whole number"),
        (lambda it: it["members"][0].update(size=1.0), "members[0].size is no whole number"),
        (lambda it: it["members"][0].update(offset=True), "members[0].offset is no whole number"),
        (lambda it: it["members"][0].update(name="/etc/passwd"), "members[0].name may not be"),
        (lambda it: it["members"][0].update(name=".."), "members[0].name may not be '..'"),
        (lambda it: it["members"][0].update(name="a/../../b"), "members[0].name may not be"),
        (lambda it: it["members"][0].update(name="-d"), "members[0].name may not be '-d'"),
        (lambda it: it["objects"][0].update(key="../pack-0001.tar"), "objects[0].key may not be"),
        (lambda it: it["objects"][0].update(key="archive/.."), "objects[0].key may not be"),
        (lambda it: it["objects"][0].update(key="/archive/a"), "objects[0].key may not be"),
        (lambda it: it["members"][0].update(sha256="0" * 63), "members[0].sha256 may not be"),
        (lambda it: it["members"][0].update(sha256="G" * 64), "members[0].sha256 may not be"),
        (lambda it: it["members"][1].update(size=301), "lies beyond the end of archive/pack-0001"),
        (lambda it: it["members"][3].update(offset=1), "lies beyond the end of archive/3349"),
        (lambda it: it["members"][3].update(object="archive/x"), "lies in archive/x, which is not"),
        (lambda it: it["members"].append(it["members"][0]), "toc.dat is listed twice"),
        (lambda it: it["objects"].append(it["objects"][0]), "pack-0001.tar is listed twice"),
        (lambda it: it["members"].pop(), "no member lies in archive/3349.dat.zst"),
        (lambda it: it["members"].pop(0), "there is no member toc.dat"),
        (lambda it: it["members"].pop(1), "sizes.members is 15000, and what is listed makes 14700"),
        (lambda it: it["sizes"].update(stored=1), "sizes.stored is 1, and what is listed makes"),
        (lambda it: it["members"][1].pop("table"), "members[1].table is missing"),
        (lambda it: it["members"][1].update(table="a\0b"), "members[1].table is no text"),
        (lambda it: it.update(finished="2026-02-30T02:00:00.000000Z"), "finished is no time"),
        (lambda it: it.update(finished="2026-02-20T02:00:00.000000"), "finished may not be"),
        (lambda it: it["inventory"]["relations"][0].update(rows=-1), "relations[0].rows is no"),
        (lambda it: it["selection"].update(tables=[1]), "selection.tables is no list of texts"),
        (lambda it: it.update(members={}), "members is no list"),
        (lambda it: it.update(source=[]), "source is no JSON object"),
    ],
)  # fmt: skip
def test_a_damaged_field_is_named(change: Callable[[Any], object], problem: str) -> None:
    error = refused(changed(change))

    assert "the manifest is damaged" == error.message
    assert problem in error.detail


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": 1e999}', b'{"a": NaN}',
     CONTENT.replace(b'"format": 1,', b'"format": 1, "format": 1,'),
     CONTENT.replace(b"12.25", b"Infinity"), CONTENT.replace(b"12.25", b"1e999"),
     CONTENT.replace(b"12.25", b"9" * 5000)],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    assert "the manifest is damaged" == refused(content).message


def test_a_manifest_that_is_cut_short_is_refused_wherever_it_ends() -> None:
    for end in range(0, len(CONTENT) - 2, 17):
        refused(CONTENT[:end])


def test_whatever_stands_in_a_field_is_refused_or_kept() -> None:
    """Nothing is read as something else, and nothing but VerificationError is raised."""
    original = json.loads(CONTENT)
    tried = accepted = 0
    for path in paths(original):
        for value in ODD:
            document = copy.deepcopy(original)
            place = document
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
            tried += 1
            try:
                manifest = decode(json.dumps(document).encode())
            except VerificationError:
                continue
            accepted += 1
            assert document == json.loads(encode(manifest))
    assert 1000 < tried
    assert 0 < accepted < tried / 2


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for step in steps:
        yield (*path, step)
        yield from paths(value[step], (*path, step))
