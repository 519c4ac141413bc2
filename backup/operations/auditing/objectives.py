"""Audit area objectives: what was promised of age, of proof and of the time to restore."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from backup.aws.s3 import Bucket
from backup.checks import Age, Check, Unanswered, ask, failed, passed
from backup.model import BackupEntry
from backup.operations.auditing.fleet import elsewhere, promised
from backup.operations.auditing.series import (
    Restored,
    Series,
    drilled,
    is_of_a_part,
    listed_series,
    looked_at,
    restored_instances,
    slowest_thaw,
)
from backup.operations.auditing.steps import backing_up, step_of
from backup.operations.drill_record import PastDrill
from backup.settings import Settings
from backup.verdicts import Verdict
from backup.wording import duration

_DAY = 86400.0
_CLOCKS_DIFFER = timedelta(minutes=15)


def checks(bucket: Bucket, settings: Settings, now: datetime) -> list[Check]:
    """Three checks for each database, and one for each instance that was restored."""
    databases = [*_of_databases(bucket, settings, now), *elsewhere(settings)]
    return [*databases, *_of_instances(bucket, settings)]


def _of_databases(bucket: Bucket, settings: Settings, now: datetime) -> list[Check]:
    answer = ask(lambda: listed_series(bucket, settings))
    if isinstance(answer, Unanswered):
        whose = settings.database or "each database"
        return [
            answer.check("objectives.age", f"Age of the newest backup of {whose}"),
            answer.check("objectives.drill", f"Newest proven drill of {whose}"),
            answer.check("objectives.restore", f"Time to restore {whose}"),
        ]
    if not answer.value and not settings.audit.fleet:
        place = bucket.uri(f"{settings.bucket.prefix}/" if settings.bucket.prefix else "")
        return [
            failed(
                "objectives.age",
                "Age of the newest backup",
                f"there is no backup at all below {place}",
                backing_up(settings),
            )
        ]
    found = []
    for series in answer.value:
        found.append(_age(bucket, series, settings, now))
        if series.backups:
            found += [
                _drill(bucket, series, settings, now),
                _restore(bucket, series, settings, now),
            ]
    return found


def _age(bucket: Bucket, series: Series, settings: Settings, now: datetime) -> Check:
    id, title = "objectives.age", f"Age of the newest backup of {series.database}"
    most = promised(settings, series.database).max_age_seconds
    fix = f"{backing_up(settings)}\n" + (
        f"# Where this database is backed up no more, take it out of {settings.fleet.file}"
        if settings.audit.fleet
        else "# Where this database is backed up no more, audit those that are, each in a step:\n"
        "with:\n  database: shop"
    )
    if not series.backups:
        mended = fix if settings.audit.fleet else backing_up(settings)
        return failed(id, title, "there is no backup of it", mended)
    past = [each for each in series.backups if _is_past(each.time, now)]
    young = [each for each in past if _since(each.time, now) <= most]
    faults = []
    for entry in reversed(young):
        answer = ask(partial(looked_at, bucket, series, entry))
        if isinstance(answer, Unanswered):
            return answer.check(id, title)
        if not answer.value.fault:
            check = passed(id, title, f"{_old(entry, now)}, and {duration(most)} are allowed")
            return replace(check, age=Age(series.database, _since(entry.time, now)))
        faults.append(answer.value.fault)
    newest = past[-1] if past else series.backups[-1]
    reason = f"{_old(newest, now)}, and {duration(most)} are allowed (max-age-hours)"
    if faults:
        reason = f"no backup of the last {duration(most)} counts: {'; '.join(faults)}"
    # The newest that counts is no younger than those that nobody has looked into.
    older = past[: len(past) - len(young)]
    age = Age(series.database, _since(older[-1].time, now)) if older else None
    return replace(failed(id, title, reason, fix), age=age)


def _drill(bucket: Bucket, series: Series, settings: Settings, now: datetime) -> Check:
    id, title = "objectives.drill", f"Newest proven drill of {series.database}"
    most = promised(settings, series.database).max_drill_age_seconds

    def newest_proven() -> PastDrill | None:
        past = (each for each in drilled(bucket, series) if _is_past(each.time, now))
        proven = (each for each in past if each.is_proven_restore)
        return next((each for each in proven if not is_of_a_part(bucket, series, each)), None)

    answer = ask(newest_proven)
    if isinstance(answer, Unanswered):
        return answer.check(id, title)
    proven = answer.value
    if proven is None:
        what = "no drill has proven a full restore" if series.drills else "there was no drill yet"
        return failed(id, title, what, _verify(series, settings))
    age = _since(proven.time, now)
    said = f"{_days(age)} ago, of {proven.backup_id}"
    if age <= most:
        check = passed(id, title, f"{said}; {_days(most)} are allowed")
    else:
        said = f"{said}, and {_days(most)} are allowed (max-drill-age-days)"
        check = failed(id, title, said, _verify(series, settings))
    return replace(check, age=Age(series.database, age))


def _restore(bucket: Bucket, series: Series, settings: Settings, now: datetime) -> Check:
    id, title = "objectives.restore", f"Time to restore {series.database}"
    tier, most = settings.thaw.tier, promised(settings, series.database).max_restore_seconds

    def last_measured() -> PastDrill | None:
        past = (each for each in drilled(bucket, series) if _is_past(each.time, now))
        measured = (each for each in past if _is_measured(each))
        return next((each for each in measured if not is_of_a_part(bucket, series, each)), None)

    answer = ask(last_measured)
    if isinstance(answer, Unanswered):
        return answer.check(id, title)
    if answer.value is None or answer.value.restore_seconds is None:
        return failed(id, title, "no restore was measured yet", _verify(series, settings))
    thaw = ask(lambda: slowest_thaw(bucket, series, tier))
    if isinstance(thaw, Unanswered):
        return thaw.check(id, title)
    seconds = answer.value.restore_seconds
    said = f"{duration(seconds)} measured on {answer.value.time:%Y-%m-%d}"
    if thaw.value:
        archive, way = thaw.value
        seconds += way.seconds
        said += f", and {way.usually} to thaw the newest backup out of {archive}"
    if seconds <= most:
        return passed(id, title, f"{said}; {duration(most)} are allowed")
    fix = _faster(series, settings)
    if thaw.value:
        fix = (
            "# Keep backups where they read at once, as in the lifecycle of the README:\n"
            '"Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}]\n'
            f"# and make one that lies there:\n{backing_up(settings)}"
        )
    return failed(id, title, f"{said}: {duration(most)} are allowed (max-restore-minutes)", fix)


def _of_instances(bucket: Bucket, settings: Settings) -> list[Check]:
    answer = ask(lambda: restored_instances(bucket, settings))
    if isinstance(answer, Unanswered):
        meant = settings.rds.instance or settings.rds.cluster
        title = f"Time to restore the instance {meant}"
        return [answer.check("objectives.instance", title)] if meant else []
    return [_instance(each, settings.audit.max_restore_seconds) for each in answer.value]


def _instance(restored: Restored, most: float) -> Check:
    id, title = "objectives.instance", f"Time to restore the instance {restored.identifier}"
    fix = (
        "# Promise what it takes, or restore by table in the meantime (docs/recovery.md):\n"
        f"with:\n  max-restore-minutes: {round((restored.seconds or most) / 60 * 1.5) or 1}"
    )
    if restored.seconds is None:
        return failed(
            id,
            title,
            f"the record of {restored.time:%Y-%m-%d %H:%M} UTC says no time",
            f"with:\n  operation: restore-instance\n  db-instance: {restored.identifier}",
        )
    if not restored.checked:
        return failed(
            id,
            title,
            f"nobody logged in to the one of {restored.time:%Y-%m-%d %H:%M} UTC, nor to any before"
            " it, so that no restore was measured",
            f"with:\n  operation: restore-instance\n  db-instance: {restored.identifier}\n"
            "  user: backup\n  password: ${{ secrets.BACKUP_PASSWORD }}",
        )
    said = f"{duration(restored.seconds)} measured on {restored.time:%Y-%m-%d}"
    if restored.seconds <= most:
        return passed(id, title, f"{said}; {duration(most)} are allowed")
    return failed(id, title, f"{said}: {duration(most)} are allowed (max-restore-minutes)", fix)


def _is_measured(drill: PastDrill) -> bool:
    """A restore that went wrong may have been quick because half of it is missing."""
    return drill.restore_seconds is not None and drill.verdict in (
        Verdict.PROVEN.value,
        Verdict.NOT_PROVEN.value,
    )


def _is_past(moment: datetime, now: datetime) -> bool:
    """A name from the future would look fresh for ever."""
    return moment - now < _CLOCKS_DIFFER


def _since(moment: datetime, now: datetime) -> float:
    return max((now - moment).total_seconds(), 0.0)


def _old(entry: BackupEntry, now: datetime) -> str:
    return f"{entry.id} is {_days(_since(entry.time, now))} old"


def _days(seconds: float) -> str:
    return duration(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} days"


def _verify(series: Series, settings: Settings) -> str:
    """The step of a drill, as in examples/workflows/monthly-drill.yml."""
    return step_of(settings, "verify", series.database, "latest")


def _faster(series: Series, settings: Settings) -> str:
    return (
        "# Restore with more tables at a time, on a larger runner, or promise more time:\n"
        f"{_verify(series, settings)}\n  jobs: 4"
    )
