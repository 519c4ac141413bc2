"""The scratch folder is gone at the end, and never what a run fails of."""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from backup.archive.scratch import scratch_folder


class Broken(Exception):
    """What a run fails of."""


def test_files_that_are_made_while_the_folder_goes_do_not_hide_the_failure() -> None:
    """As by threads that the network has held until then."""
    begun = threading.Barrier(5)

    def write_on(folder: Path, writer: int) -> None:
        begun.wait()
        with suppress(FileNotFoundError):
            for number in count():
                (folder / f"{writer}-{number}").touch()

    with pytest.raises(Broken), scratch_folder() as folder:
        late = [
            threading.Thread(target=write_on, args=(folder, writer), daemon=True)
            for writer in range(4)
        ]
        for each in late:
            each.start()
        begun.wait()
        raise Broken

    for each in late:
        each.join(timeout=10)
    assert [] == list(folder.parent.glob(f"{folder.name}*"))
