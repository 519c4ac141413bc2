"""Step of the doctor: the disk that a dump passes through."""

from __future__ import annotations

import shutil
from pathlib import Path

from backup.archive.scratch import scratch_folder
from backup.checks import Check
from backup.operations.auditing.setup_course import Course, Step, failed, passed
from backup.wording import size


def look_at_disk(course: Course, scratch_limit: int) -> None:
    """Whether TMPDIR takes holes and has room for what a dump may pile up."""

    def measure() -> tuple[Path, int]:
        with scratch_folder() as folder:
            return folder.parent, shutil.disk_usage(folder).free

    def told(found: tuple[Path, int]) -> Check:
        folder, free = found
        if free < scratch_limit:
            return failed(
                Step.DISK,
                f"{folder} has {size(free)} free, and a dump may take {size(scratch_limit)}"
                " (scratch-limit)",
                "free some of it, set TMPDIR to a larger disk, or lower scratch-limit and jobs",
            )
        return passed(
            Step.DISK,
            f"{folder} has {size(free)} free of which a dump takes {size(scratch_limit)} at the"
            " most, and gives back what is uploaded",
        )

    course.look(Step.DISK, measure, told)
