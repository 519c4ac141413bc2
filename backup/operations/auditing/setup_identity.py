"""Steps of the doctor: the clock, the id token, the role."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backup.aws.clock import seconds_ahead
from backup.aws.session import AwsSession, open_session
from backup.aws.trust import Claims, read_claims
from backup.checks import Check
from backup.console import Console
from backup.errors import BackupError
from backup.github.id_token import id_token_loader
from backup.operations.auditing.setup_course import Course, Step, failed, passed, unknown, warned
from backup.settings import Settings
from backup.wording import duration

# AWS refuses a signature that is 15 minutes off, and an id token lives for 5.
_MOST_SECONDS, _MUCH_SECONDS = 240.0, 30.0
_SET_THE_CLOCK = (
    "set this machine's clock and keep it: sudo timedatectl set-ntp true, or"
    " chronyc makestep; in a container the clock is the host's"
)


def look_at_clock(course: Course, settings: Settings) -> None:
    """Nothing rests on it: a wrong clock shows in what follows, and this says why."""
    try:
        ahead = seconds_ahead(settings.role.region or "", settings.bucket.name)
    except BackupError as error:
        course.add(unknown(Step.CLOCK, f"{error.message}: {error.detail}", error.hint))
        return
    way = "ahead of" if ahead > 0 else "behind"
    told = f"the clock here is {duration(abs(ahead))} {way} AWS's"
    if abs(ahead) > _MOST_SECONDS:
        refused = "AWS refuses signatures that are 15 minutes off, and id tokens live for 5"
        course.add(failed(Step.CLOCK, f"{told}; {refused}", _SET_THE_CLOCK))
    elif abs(ahead) > _MUCH_SECONDS:
        course.add(warned(Step.CLOCK, told, _SET_THE_CLOCK))
    else:
        course.add(passed(Step.CLOCK, f"no more than {duration(_MUCH_SECONDS)} off AWS's"))


def log_in(
    course: Course, settings: Settings, environment: Mapping[str, str], console: Console
) -> AwsSession | None:
    """The session of the role, or of the environment's credentials; None where there is none."""
    role = settings.role
    loader = id_token_loader(environment, role.audience, console.mask)
    if loader and role.arn:
        _look_at_token(course, loader)
    else:
        why = "this is no job of GitHub's" if role.arn else "no role is named"
        told = f"not needed: {why}, so the credentials of the environment are used"
        course.add(passed(Step.ID_TOKEN, told))

    def told_of(session: AwsSession) -> Check:
        if session.identity is None:
            told = f"the credentials of the environment, for {session.region}"
            return passed(Step.ROLE, f"{told}; whose they are shows at the bucket")
        who = f"{session.identity.arn} of account {session.identity.account}"
        return passed(Step.ROLE, f"{who}, for {session.region}")

    return course.look(
        Step.ROLE,
        lambda: open_session(role, loader, console.mask),
        told_of,
        (Step.ID_TOKEN,),
    )


def _look_at_token(course: Course, load: Callable[[], str]) -> None:
    def told(claims: Claims) -> Check:
        return passed(
            Step.ID_TOKEN,
            f"GitHub gives one: sub={claims.subject}, aud={claims.audience}, iss={claims.issuer}",
        )

    course.look(Step.ID_TOKEN, lambda: read_claims(load()), told)
