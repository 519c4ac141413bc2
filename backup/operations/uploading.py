"""Uploads that end with the run: completed, or aborted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backup.archive.uploads import Uploads
from backup.aws.s3 import Bucket
from backup.console import Console
from backup.errors import Interrupted
from backup.wording import count

UPLOAD_THREADS = 4

# How long aborting uploads may take; and what the rest of the ending takes at the most, which is
# to be left over of the time that a signal gives.
_PATIENCE_SECONDS, _OTHER_ENDING_SECONDS = 30.0, 1.2


@contextmanager
def open_uploads(bucket: Bucket, root: str, console: Console) -> Iterator[Uploads]:
    """Uploads that are aborted unless they were completed."""
    uploads = Uploads(bucket, root, UPLOAD_THREADS)
    patience = _PATIENCE_SECONDS
    try:
        yield uploads
    except Interrupted as interrupted:
        patience = interrupted.seconds_left - _OTHER_ENDING_SECONDS
        raise
    finally:
        if left := uploads.close(patience):
            reasons = [why for why in left.values() if why]
            console.warning(
                f"{count(len(left), 'upload')} could not be aborted",
                "S3 keeps their parts, unseen and paid for, until the bucket's lifecycle rule"
                f" for incomplete multipart uploads removes them: {', '.join([*left][:10])}\n"
                + "".join(reasons[:1]),
            )
