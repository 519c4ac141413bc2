"""Who the run is in AWS: sessions shorter than the dump, and every way to be refused one."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.aws import Ministack
from tests.lab.commands import read_log
from tests.lab.postgres import PostgresServer
from tests.lab.stage import (
    Stage,
    assert_backed_up,
    assert_nothing_half_done,
    stage,
    wait_until,
)
from tests.lab.sts import NOT_AUTHORIZED, Refusal

ID_TOKEN = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")


@pytest.fixture
def shop(noisy: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    with stage(noisy, strict, "shop") as ready:
        yield ready


def small(shop: Stage) -> dict[str, str]:
    """A backup that is over in a moment."""
    return shop.inputs(tables="small_*")


def test_a_dump_outlasts_its_role_session_many_times(shop: Stage) -> None:
    shop.cloud.sts.lifetime = 3.0
    shop.cloud.proxy.bucket.rate = 5_000_000
    run = shop.run()
    assert_backed_up(run, shop)
    exchanges = shop.cloud.sts.exchanges
    assert exchanges[-1].at - exchanges[0].at > 2 * 3.0
    assert len(exchanges) >= 3
    issued = shop.cloud.issuer.issued
    assert len(issued) == len(set(issued)) == len(exchanges)
    assert len(exchanges) == len({exchange.access_key for exchange in exchanges})
    assert [] == [record for record in shop.cloud.proxy.records if record.status == 400]


def test_a_session_of_usual_length_is_asked_for_once(shop: Stage) -> None:
    assert_backed_up(shop.run(small(shop)), shop)
    assert 1 == len(shop.cloud.sts.exchanges) == len(shop.cloud.issuer.issued)


def test_tokens_and_keys_are_masked_before_anything_could_print_them(shop: Stage) -> None:
    shop.cloud.sts.lifetime = 3.0
    run = shop.run(small(shop), {"ACTIONS_STEP_DEBUG": "true"})
    assert_backed_up(run, shop)
    secrets = [
        shop.server.password,
        shop.cloud.issuer.request_token,
        *shop.cloud.issuer.issued,
        *(key for exchange in shop.cloud.sts.exchanges for key in exchange.secrets),
        *(exchange.access_key for exchange in shop.cloud.sts.exchanges),
    ]
    for secret in secrets:
        assert secret in run.log.masks
        before, _, _ = run.output.partition(f"::add-mask::{secret}\n")
        assert secret not in read_log(before).printed


def test_a_role_that_is_withdrawn_in_the_middle_fails_the_backup(shop: Stage) -> None:
    """Without keys nothing can be aborted either, which is said."""
    shop.cloud.sts.lifetime = 2.0
    shop.cloud.proxy.bucket.rate = 6_000_000
    with shop.start() as running:
        wait_until(shop.parts_seen)
        shop.cloud.sts.refuse = Refusal(403, "AccessDenied", NOT_AUTHORIZED)
        run = running.finish()
    assert 3 == run.exit_code
    assert {} == shop.cloud.objects()
    assert [] == run.leftovers
    assert 1 == len(run.errors)
    assert "the role's trust policy must hold this statement" in run.errors[0].message
    warned = "\n".join(warning.message for warning in run.warnings)
    for key in shop.cloud.open_uploads():
        assert key.rpartition("/")[2] in warned


# GitHub gives no token


def test_a_job_without_the_permission_is_shown_the_lines_to_add(shop: Stage) -> None:
    run = shop.run(env=dict.fromkeys(ID_TOKEN, ""))
    error = assert_nothing_half_done(run, shop, 3)
    assert "permissions:\n  id-token: write\n" in error


def test_a_pull_request_is_told_that_forks_get_no_token(shop: Stage) -> None:
    env = {**dict.fromkeys(ID_TOKEN, ""), "GITHUB_EVENT_NAME": "pull_request"}
    error = assert_nothing_half_done(shop.run(env=env), shop, 3)
    assert "fork" in error
    assert "workflow_dispatch" in error


def test_an_issuer_that_fails_for_a_moment_is_asked_again(shop: Stage) -> None:
    shop.cloud.issuer.status = 500
    with shop.start(small(shop)) as running:
        wait_until(lambda: shop.cloud.issuer.refused >= 2)
        shop.cloud.issuer.status = 200
        run = running.finish()
    assert_backed_up(run, shop)
    assert 2 <= shop.cloud.issuer.refused <= 3


def test_an_issuer_that_refuses_is_not_asked_again(shop: Stage) -> None:
    shop.cloud.issuer.status = 403
    error = assert_nothing_half_done(shop.run(), shop, 3)
    assert "403" in error
    assert 1 == shop.cloud.issuer.refused


# STS refuses the token


@pytest.mark.parametrize(
    ("subject", "other_form"),
    [
        ("repo:octo-org/other:ref:refs/heads/main", "repo:octo-org@*/other@*:ref:refs/heads/main"),
        (
            "repo:octo-org@9919/other@1296269:ref:refs/heads/main",
            "repo:octo-org/other:ref:refs/heads/main",
        ),
    ],
    ids=["names", "names and ids"],
)
def test_a_wrong_subject_is_shown_with_the_trust_it_needs_in_both_forms(
    shop: Stage, subject: str, other_form: str
) -> None:
    shop.cloud.issuer.subject = subject
    error = assert_nothing_half_done(shop.run(), shop, 3)
    assert f"sub={subject}, aud=sts.amazonaws.com" in error
    statement = json.loads(re.search(r"^\{$.*?^\}$", error, re.MULTILINE | re.DOTALL)[0])  # type: ignore[index]
    conditions = {
        name: value for each in statement["Condition"].values() for name, value in each.items()
    }
    host = "token.actions.githubusercontent.com"
    assert {subject, other_form} == set(conditions[f"{host}:sub"])
    assert "sts.amazonaws.com" == conditions[f"{host}:aud"]


def test_a_pull_request_is_not_told_to_have_the_role_trust_it(shop: Stage) -> None:
    shop.cloud.issuer.subject = "repo:octo-org/shop:pull_request"
    error = assert_nothing_half_done(shop.run(), shop, 3)
    assert "an environment with reviewers:\nenvironment: NAME" in error
    assert '"Effect": "Allow"' not in error


def test_a_wrong_audience_is_shown(shop: Stage) -> None:
    error = assert_nothing_half_done(shop.run(shop.inputs(audience="another")), shop, 3)
    assert "aud=another" in error
    assert "add-client-id-to-open-id-connect-provider" in error


def test_a_forged_token_is_refused(shop: Stage) -> None:
    shop.cloud.issuer.forge = True
    error = assert_nothing_half_done(shop.run(), shop, 3)
    assert "InvalidIdentityToken" in error
    assert [] == shop.cloud.sts.exchanges


def test_an_expired_token_points_at_the_clock(shop: Stage) -> None:
    shop.cloud.issuer.lifetime = -60
    assert "clock" in assert_nothing_half_done(shop.run(), shop, 3)


def test_a_session_longer_than_the_role_allows_is_explained(shop: Stage) -> None:
    (trust,) = shop.cloud.sts.trust or ()
    assert 7200 > dataclasses.replace(trust).max_duration
    error = assert_nothing_half_done(shop.run(shop.inputs(role_duration_seconds="7200")), shop, 3)
    assert "role-duration-seconds: 3600" in error
