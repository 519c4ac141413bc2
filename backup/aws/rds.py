"""RDS and Aurora: which hosts are theirs, the certificates to trust there, and login tokens.

`rds-root-bundle.pem` holds Amazon's root certificates for RDS, by region, and those of RDS Proxy.
The copy in the repository is of 2024: il-central-1, ca-west-1 and later regions, GovCloud and China
are not in it. `make rds-bundle` renews it from what Amazon publishes, and so does each release.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
"""

from __future__ import annotations

import re
from pathlib import Path

from backup.aws.refusals import Attempt, explained
from backup.aws.session import AwsSession

ROOT_BUNDLE = Path(__file__).with_name("rds-root-bundle.pem")

# name.id.REGION.rds.amazonaws.com, with cluster-, cluster-ro- or proxy- before the id, and
# name.id.rds.REGION.amazonaws.com.cn in China.
_HOST = re.compile(
    r"[a-z0-9.-]+\.(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)\.rds\.amazonaws\.com"
    r"|rds\.(?P<china>cn-[a-z]+-\d+)\.amazonaws\.com\.cn)\.?",
    re.IGNORECASE,
)


def is_rds_host(host: str) -> bool:
    """Whether a host name is one that RDS gives: instance, cluster or proxy."""
    return _HOST.fullmatch(host) is not None


def login_token(session: AwsSession, host: str, port: int, user: str) -> str:
    """A password for `user` that is valid for 15 minutes; make one for each connection.

    It is computed here, without a request. The region is the host's own where its name tells.
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
    Raises AccessError when the session's keys cannot be renewed.
    """
    match = _HOST.fullmatch(host)
    region = (match["region"] or match["china"]).lower() if match else session.region
    with explained(Attempt(f"cannot make a login token for {user}@{host}", session.region)):
        # The host is signed: it must be the name that the server knows itself by.
        token = session.client("rds").generate_db_auth_token(
            DBHostname=host.rstrip(".").lower(), Port=port, DBUsername=user, Region=region
        )
    return str(token)
