"""Getting into a copy at AWS: a password of its own, tokens of IAM, TLS that is verified, the way by a port forward.

Guarantees that production's master password does not open the copy; that the new one is known to nobody but this
process and PostgreSQL; that TLS is verified against the bundle of the plan, unless its `connect_via` says otherwise,
which is then told as a deviation; that a token is made anew for every address, since it lives for fifteen minutes.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass, field

from drills.addresses import Address, resolve_address
from drills.errors import ConnectError
from drills.plans import rds as plan_rds
from drills.recovery.aws.client import Service
from drills.recovery.aws.kinds import Kind, existing
from drills.recovery.aws.wait import Deadline, Tell, Wanted, wait_until
from drills.secrets import VAULT
from drills.sessions import STAGING_LIMITS, Access, session

_LETTERS = 40


@dataclass(frozen=True)
class Reach:
    """How to get into a copy."""

    wish: plan_rds.Managed
    service: Service
    endpoint: str
    port: int
    master: str
    database: str
    password: str = field(repr=False)

    def address(self) -> Address:
        """Where the copy is, and what lets us in now. Ask for every connection: a token does not live long.

        Raises:
            AwsError: there are no credentials to make a token with.
            ConnectError: the host of `connect_via` has no address.
            SecretError: the password of `connect_via` leads nowhere.
        """
        via = self.wish.connect_via
        direct = {
            "host": self.endpoint,
            "port": str(self.port),
            "user": self._user,
            "dbname": self.database,
            "sslmode": "verify-full",
            "sslrootcert": self.wish.ca_bundle,
        }
        if via is None:
            return Address(direct, self._let_in())
        given = resolve_address(via.address, via.password)
        parts = dict(given.parts)
        if via.password is None:
            parts["user"] = self._user
        if "sslmode" not in parts:
            # libpq connects to hostaddr, and verifies the name that is in host.
            parts = {**parts, "host": self.endpoint, "hostaddr": _numeric(given.host)}
            parts["sslmode"] = "verify-full"
        if parts["sslmode"].startswith("verify"):
            parts = {"sslrootcert": self.wish.ca_bundle, **parts}
        return Address({"port": "5432", **parts}, given.password if via.password else self._let_in())

    @property
    def deviations(self) -> tuple[str, ...]:
        """What is not as it would be without the plan's say."""
        mode = self.address().parts.get("sslmode", "")
        if mode == "verify-full":
            return ()
        return (f"the certificate of the copy was not verified: connect_via says sslmode={mode}",)

    @property
    def _user(self) -> str:
        login = self.wish.login
        return login.user if isinstance(login, plan_rds.IamLogin) else self.master

    def _let_in(self) -> str:
        """A password, or a token for the endpoint, whatever way leads there."""
        if isinstance(self.wish.login, plan_rds.IamLogin):
            return self.service.login_token(self.endpoint, self.port, self._user)
        return self.password


def _numeric(host: str) -> str:
    """The first address of a host.

    Raises:
        ConnectError: it has none.
    """
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise ConnectError(
            f"the host of connect_via has no address: {host}: {error.strerror}", hint="check connect_via.address"
        ) from None


def rotate_password(service: Service, kind: Kind, name: str, deadline: Deadline, tell: Tell) -> str:
    """A new master password for the copy, applied when this returns.

    Raises:
        AwsError: it could not be set, or took too long.
    """
    # RDS refuses / " @ and blanks: https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBInstance.html
    password = secrets.token_urlsafe(_LETTERS)
    VAULT.know(password)
    seen = existing(service, kind, name)
    kept_at_aws = {"ManageMasterUserPassword": False} if seen.get("MasterUserSecret") else {}
    service.ask(
        kind.modify, **{kind.identifier: name}, MasterUserPassword=password, ApplyImmediately=True, **kept_at_aws
    )
    wanted = Wanted(
        service,
        kind,
        name,
        lambda seen: kind.state(seen) == "available" and not _is_pending(seen),
        called="available with its new password",
    )
    wait_until(wanted, deadline, tell)
    return password


def _is_pending(seen: dict[str, object]) -> bool:
    pending = seen.get("PendingModifiedValues")
    return isinstance(pending, dict) and bool(pending.get("MasterUserPassword"))


def get_in(reach: Reach, name: str, deadline: Deadline, tell: Tell) -> None:
    """Connect once. A password that AWS calls applied may not be known to the server for a moment, nor the name to DNS.

    Raises:
        ConnectError: it does not let us in; says what may be the reason.
    """
    patience = deadline.within(reach.wish.connect_timeout)
    while True:
        try:
            with session(reach.address(), name=name, access=Access.READ_ONLY, limits=STAGING_LIMITS):
                return
        except ConnectError as error:
            if patience.over:
                raise _explained(error, reach) from None
        tell(round(patience.passed), None, "s", "waiting to be let in")
        patience.pause()


def _explained(error: ConnectError, reach: Reach) -> ConnectError:
    login = reach.wish.login
    said = error.message.lower()
    if isinstance(login, plan_rds.IamLogin) and "authentication failed" in said:
        return ConnectError(
            f"{error.message}; the token of IAM was refused",
            hint=f"a token lives for fifteen minutes, and no longer than the credentials that made it: renew them;"
            f" the role needs rds-db:connect for {login.user}, and {login.user} needs rds_iam in the database",
        )
    if "certificate" in said or "ssl" in said:
        return ConnectError(error.message, hint="fetch global-bundle.pem of RDS again, and see that ca_bundle names it")
    if "timeout" in said or "timed out" in said:
        return ConnectError(
            error.message,
            hint="staging.security_groups must let this machine in; or name a way in connect_via",
        )
    return error
