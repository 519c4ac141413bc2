"""A drill: one backup looked at, read or restored, and what that proves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from backup.archive.scratch import scratch_folder
from backup.aws.s3_reading import ReadableBucket
from backup.aws.session import AwsSession
from backup.console import Console
from backup.errors import BackupError, InputError, VerificationError
from backup.model import Complaint, Severity
from backup.operations.choosing import redumper_for, restorer_for
from backup.operations.drill_place import DrillPlace, excluded_by, throwaway_place
from backup.operations.finding import Located
from backup.operations.looking import agreement, look_at_objects, read_archive
from backup.operations.obtaining import OpenedBackup, opened, thaw_data
from backup.operations.phases import Phases
from backup.operations.proving import ProofPlan, prove
from backup.operations.reaching import reached
from backup.operations.reading import ArchiveReader
from backup.operations.restore_plan import plan_restore
from backup.operations.restoring import Loading, Way
from backup.operations.target_site import Site, finish, prepare, reach
from backup.postgres.connection import connect
from backup.postgres.loading import session_settings
from backup.postgres.questions import to_ask
from backup.settings import Settings, SourceSettings
from backup.verdicts import Check, Finding, Proof, Verdict, check
from backup.wording import duration


@dataclass(frozen=True)
class Drill:
    """What a drill found out. `restore_seconds` is None where nothing was restored.

    `age_seconds` is that of the data when the drill began. `error` is what ended it early.
    """

    backup_id: str
    database: str
    root: str
    depth: str
    began: datetime
    age_seconds: float
    restore_seconds: float | None
    proof: Proof
    error: BackupError | None = None

    @property
    def verdict(self) -> Verdict:
        return self.proof.verdict


@dataclass
class _Clock:
    """Seconds since the drill began, stopped when the last index was built."""

    began: float = field(default_factory=time.monotonic)
    restored: float | None = None


class Driller:
    """Drills backups of one database, each by itself."""

    def __init__(
        self,
        bucket: ReadableBucket,
        session: AwsSession,
        settings: Settings,
        phases: Phases,
        console: Console,
        environment: Mapping[str, str],
    ) -> None:
        self._bucket = bucket
        self._session = session
        self._settings = settings
        self._phases = phases
        self._console = console
        self._environment = environment
        # Read before the restore, at whose end they are asked.
        self._queries = read_queries(settings.verify.check_sql)

    def drill(self, place: Located, *, is_newest: bool) -> Drill:
        """Drill a backup; whatever goes wrong is part of what it finds out."""
        clock, began = _Clock(), datetime.now(UTC)
        depth, error = self._settings.verify.depth, None
        seen: list[Check] = []
        try:
            with ExitStack() as undo:
                proof = self._prove(place, clock, seen, undo)
        except InputError:
            raise
        except BackupError as ended:
            error = ended
            # What is wrong with the backup is one thing, and what kept the drill from its end
            # another.
            about_it = isinstance(ended, VerificationError)
            verdict = Verdict.FAILED if about_it else Verdict.NOT_PROVEN
            proof = Proof((Check(depth, verdict, f"{ended.message}: {ended.detail}"),), ())
        proof = replace(proof, checks=(*seen, *proof.checks))
        age = (began - place.entry.time).total_seconds()
        objectives = self._objectives(age if is_newest else None, clock.restored)
        return Drill(
            backup_id=place.entry.id,
            database=place.entry.database,
            root=place.root,
            depth=depth,
            began=began,
            age_seconds=age,
            restore_seconds=clock.restored,
            proof=replace(proof, checks=(*proof.checks, *objectives)),
            error=error,
        )

    def _prove(self, place: Located, clock: _Clock, seen: list[Check], undo: ExitStack) -> Proof:
        """What the depth asks for; `seen` gets what is known before."""
        settings, console, depth = self._settings, self._console, self._settings.verify.depth
        with self._phases.phase(f"Open {place.entry.id}"):
            backup = undo.enter_context(opened(self._bucket, place, settings, console))
            if depth != "objects":
                thaw_data(self._bucket, backup, backup.contents.entries, settings.thaw, console)
        with self._phases.phase("Look at the objects"):
            seen.append(agreement(backup))
            # Deeper down every byte of the files is hashed.
            unchecked = Verdict.NOT_PROVEN if depth == "objects" else Verdict.PROVEN
            seen.append(look_at_objects(self._bucket, backup, unchecked=unchecked))
        if depth == "objects":
            return Proof((), ())
        scratch = undo.enter_context(scratch_folder())
        if depth == "archive":
            with self._phases.phase("Read the archive"):
                return self._archive(backup, scratch)
        return self._restore(backup, scratch, clock, undo)

    def _archive(self, backup: OpenedBackup, scratch: Path) -> Proof:
        manifest, environment = backup.manifest, self._environment
        client = restorer_for(manifest.client, manifest.compression, manifest.server, environment)
        reader = ArchiveReader(backup, client, scratch / "archive")
        return read_archive(backup, reader, self._settings.restore.jobs, self._console)

    def _restore(
        self, backup: OpenedBackup, scratch: Path, clock: _Clock, undo: ExitStack
    ) -> Proof:
        settings, console, environment = self._settings, self._console, self._environment
        options, phases = settings.restore, self._phases
        with phases.phase("Make a place for it"):
            if settings.target:
                place, site = self._named_place(backup, settings.target, undo)
            else:
                site = None
                place = throwaway_place(backup, options.jobs, scratch, undo, console, environment)
            with connect(place.database) as connection:
                way = Way(
                    client=place.client,
                    target=place.database,
                    jobs=options.jobs,
                    scratch_limit_bytes=options.scratch_limit_bytes,
                    settings=session_settings(connection, place.database),
                )
        folder = scratch / "restore"
        folder.mkdir()
        loading = Loading(backup, place.chosen, (), way, folder, console, environment)
        complaints = loading.run(phases)
        clock.restored = time.monotonic() - clock.began
        restored = _restored(complaints)
        if site and restored.verdict is Verdict.FAILED:
            return Proof((restored,), ())  # and the mark stays
        if site:
            complaints += finish(site, backup.contents, options)
            restored = _restored(complaints)
        proof = prove(
            backup.manifest,
            backup.contents,
            place.database,
            ArchiveReader(backup, place.client, scratch / "archive").script,
            ProofPlan(
                client=place.redumper,
                jobs=options.jobs,
                scratch_limit_bytes=options.scratch_limit_bytes,
                excluded=place.excluded,
                amcheck=site is None,
                check_sql=self._queries,
            ),
            phases,
            console,
            environment,
        )
        return replace(proof, checks=(restored, *proof.checks), notes=(*place.notes, *proof.notes))

    def _named_place(
        self, backup: OpenedBackup, target: SourceSettings, undo: ExitStack
    ) -> tuple[DrillPlace, Site]:
        """The database of `target-url`, under the same rules as for any restore."""
        # After a backup, tables and schemas are what it was of; a drill takes all of it.
        options = replace(
            self._settings.restore, tables=(), schemas=(), allow_existing=False, clean=False
        )
        manifest = backup.manifest
        tunnel, environment = self._settings.tunnel, self._environment
        way = reached(target, tunnel, self._session, self._console, environment)
        source = undo.enter_context(way)
        site = reach(source, options, undo)
        plan = plan_restore(backup, site, options)
        server = site.target.server
        client = restorer_for(manifest.client, manifest.compression, server, environment)
        redumper = redumper_for(client, server, environment)
        site, _ = prepare(site, backup, plan.chosen, options, undo, self._console)
        place = DrillPlace(source, client, redumper, plan.chosen, excluded_by(plan.chosen), ())
        return place, site

    def _objectives(self, age: float | None, restored: float | None) -> Iterator[Check]:
        """Whether the times that were promised are kept."""
        verify = self._settings.verify
        for name, took, most in (
            ("time to restore (RTO)", restored, verify.max_restore_seconds),
            ("age of the data (RPO)", age, verify.max_age_seconds),
        ):
            if took is not None and most is not None:
                verdict = Verdict.PROVEN if took <= most else Verdict.FAILED
                yield Check(name, verdict, f"{duration(took)} of {duration(most)}")


def _restored(complaints: Sequence[Complaint]) -> Check:
    findings = [
        Finding(
            Verdict.FAILED if each.severity is Severity.FATAL else Verdict.PROVEN,
            f"{each.about or 'pg_restore'}: {each.reason} ({each.said})",
        )
        for each in complaints
        if each.severity is not Severity.HARMLESS
    ]
    return check("restore", findings, "pg_restore met no error that counts")


def read_queries(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
        to_ask(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"check-sql: {path!r} cannot be read",
            detail=str(error),
            hint="check the repository out before this step, and give the path from its root",
        ) from error
    return text
