"""The making of the new instance or cluster: asked for, waited for, and set up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from backup.aws.instances import Cluster, Database, Instance
from backup.aws.recovery import calls as recovery
from backup.aws.recovery.attempts import Busy
from backup.aws.recovery.settings import (
    PROTECTION,
    cluster_later,
    instance_later,
    is_aurora,
)
from backup.aws.recovery.states import State, cluster_state, instance_state
from backup.aws.session import AwsSession
from backup.aws.work import Standing, Unreachable
from backup.console import Console
from backup.errors import BackupError, Interrupted
from backup.operations.aws_waiting import Watch
from backup.operations.recovering.commands import to_finish, to_remove
from backup.operations.recovering.differences import Difference, differences
from backup.operations.recovering.plan import RecoveryPlan

# RDS stays `available` for a while before it begins to modify. So often in a row it must show that
# it has nothing to do, unless it was seen busy; more often before what it did not do is taken for
# its last word.
_QUIET_LOOKS, _LAST_WORD_LOOKS = 4, 8


class Making:
    """What a run makes, step by step; `made` are the identifiers that RDS was asked for."""

    def __init__(self, session: AwsSession, plan: RecoveryPlan, console: Console) -> None:
        self._session = session
        self._plan = plan
        self._console = console
        self.made: tuple[str, ...] = ()
        self.is_protected = False

    def begin(self) -> None:
        """Ask for the instance or the cluster itself."""
        wanted = self._plan.wanted
        with self._making(wanted.identifier):
            if isinstance(wanted, Cluster):
                recovery.restore_cluster(self._session, wanted, self._plan.point)
            else:
                recovery.restore_instance(self._session, wanted, self._plan.point)
        self._console.info(f"RDS makes {wanted.identifier} from {self._plan.point.name}")

    def until_it_answers(self, watch: Watch) -> Database:
        """Wait until there is something to log in to; the instance or cluster, with its endpoint.

        The other instances of a cluster are begun, and not waited for.
        """
        wanted = self._plan.wanted
        state = self._until(watch, wanted.identifier, self._look, lambda each: each.is_available)
        if not isinstance(wanted, Cluster) or not is_aurora(wanted):
            return state.database
        for member in self._plan.members:
            ask = partial(self._add, member, wanted)
            self._once_ready(watch, wanted.identifier, ask)
        writer = self._plan.members[0].identifier
        look = partial(self._look_at, writer)
        self._until(watch, writer, look, lambda each: each.is_available)
        return self._look().database

    def set_up(self, watch: Watch) -> None:
        """Ask for what a restore leaves out; RDS does it while the instance answers."""
        wanted = self._plan.wanted
        if isinstance(wanted, Cluster):
            modify, changes = recovery.modify_cluster, cluster_later(wanted)
        else:
            modify, changes = recovery.modify_instance, instance_later(wanted)
        ask = partial(modify, self._session, wanted.identifier)
        # By itself first: a setting that RDS refuses must not leave it unprotected.
        self._once_ready(watch, wanted.identifier, partial(ask, PROTECTION))
        self.is_protected = True
        self._once_ready(watch, wanted.identifier, partial(ask, changes))

    def _add(self, member: Instance, cluster: Cluster) -> None:
        with self._making(member.identifier):
            recovery.add_member(self._session, member, cluster)

    def _once_ready(self, watch: Watch, identifier: str, ask: Callable[[], None]) -> None:
        """Ask again for as long as RDS is at work on what is asked for."""

        def was_heard(state: State) -> bool:
            if not state.is_available:
                return False
            try:
                ask()
            except Busy:
                return False
            return True

        self._until(watch, identifier, partial(self._look_at, identifier), was_heard)

    def until_settled(self, watch: Watch) -> tuple[State, tuple[Difference, ...]]:
        """Wait until all is as it was asked for; what RDS left otherwise, if it did."""
        state, left = self._settled(watch, self._plan.wanted, self._look)
        for member in self._plan.members:
            name = member.identifier
            of_member, more = self._settled(watch, member, partial(self._look_at, name))
            left += tuple(Difference(f"{name}: {d.setting}", d.wanted, d.found) for d in more)
            if of_member.reboots_for:
                state = of_member
        return state, left

    def _settled(
        self, watch: Watch, wanted: Database, look: Callable[[], State]
    ) -> tuple[State, tuple[Difference, ...]]:
        quiet, was_busy = 0, False

        def is_settled(state: State) -> bool:
            nonlocal quiet, was_busy
            is_quiet = state.is_available and not state.pending
            was_busy = was_busy or not is_quiet
            quiet = quiet + 1 if is_quiet else 0
            if differences(wanted, state.database):
                return quiet >= _LAST_WORD_LOOKS
            return is_quiet and (was_busy or quiet >= _QUIET_LOOKS)

        state = self._until(watch, wanted.identifier, look, is_settled)
        return state, differences(wanted, state.database)

    def _until(
        self,
        watch: Watch,
        identifier: str,
        look: Callable[[], State],
        is_done: Callable[[State], bool],
    ) -> State:
        def standing(state: State) -> Standing:
            done = is_done(state)
            trouble = "" if done else state.trouble or ""
            return Standing(state.database.status, state.percent, done, trouble)

        kind = "db-cluster" if identifier in self._plan.clusters else "db-instance"
        events = f"aws rds describe-events --source-type {kind} --source-identifier {identifier}"
        hint = f"RDS says more: {events} --region {self._session.region} --duration 1440"
        return watch.until_done(identifier, look, standing, hint)

    @contextmanager
    def _making(self, identifier: str) -> Iterator[None]:
        """Whoever is cut off while it asks does not know whether it was heard."""
        try:
            yield
        except (Unreachable, Interrupted):
            self.made += (identifier,)
            raise
        self.made += (identifier,)

    def _look(self) -> State:
        return self._look_at(self._plan.identifier)

    def _look_at(self, identifier: str) -> State:
        if identifier in self._plan.clusters:
            return cluster_state(self._session, identifier)
        return instance_state(self._session, identifier)


@contextmanager
def nothing_made() -> Iterator[None]:
    """Say of an interruption until here that it leaves nothing."""
    try:
        yield
    except Interrupted as interrupted:
        interrupted.consequence = "nothing was made"
        raise


@contextmanager
def told_what_stands(making: Making, plan: RecoveryPlan, region: str) -> Iterator[None]:
    """Say of every failure from here on what it leaves in AWS, and what to do with that."""
    try:
        yield
    except BackupError as error:
        if making.made:
            error.detail += f"\n{_standing(making, plan)}"
            error.hint += "\n" + "\n".join(_ways(making, plan, region))
        raise
    except Interrupted as interrupted:
        ways = "\n".join(_ways(making, plan, region))
        interrupted.consequence = (
            f"{_standing(making, plan)}.\n{ways}\n" if making.made else "nothing was made"
        )
        raise


def _standing(making: Making, plan: RecoveryPlan) -> str:
    names, old = " and ".join(making.made), plan.old.database.identifier
    return f"RDS has made {names}, or goes on with it, and bills for it; {old} was not touched"


def _ways(making: Making, plan: RecoveryPlan, region: str) -> Iterator[str]:
    yield "to go on with it by hand:"
    yield from to_finish(plan, region, making.made)
    yield "or to take it away, once RDS has made it or given up, and run this again:"
    yield from to_remove(plan, region, making.made, is_protected=making.is_protected)
