"""Getting into a copy: TLS that is verified through a port forward, a password of the copy's own, tokens of IAM."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fix_aws import DRILL, MASTER, NAME, REGION, Cloud, quiet, recovery
from fix_postgres import QUICK, Database, run_sql

from drills.clusters import Cluster, make_cluster
from drills.errors import ConnectError
from drills.recovery.aws.access import Reach, get_in
from drills.recovery.aws.rds import Rds
from drills.recovery.aws.wait import Deadline
from drills.sessions import STAGING_LIMITS, Access, session
from drills.tools import Tools

SYSTEM = Path("/usr/lib/postgresql/15/bin")
"""The embedded PostgreSQL is built without TLS."""
ENDPOINT = f"{NAME}.aaaaaaaaaa.{REGION}.rds.amazonaws.com"
"""What moto calls the copy's endpoint."""


@dataclass(frozen=True)
class Authority:
    """Who signs certificates."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def made(cls, name: str) -> Authority:
        """A new one, good for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, _sign(name, key, name, key, authority=True))

    def signs(self, host: str) -> tuple[bytes, bytes]:
        """A certificate for this name, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        certificate = _sign(host, key, str(issuer), self.key, authority=False)
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return _pem(certificate), key.private_bytes(serialization.Encoding.PEM, *form)


def _sign(
    host: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    now, name = datetime.now(UTC), x509.NameOID.COMMON_NAME
    # A common name has 64 letters at most; who is verified is in the alternative name anyway.
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(name, host[:64])]))
        .issuer_name(x509.Name([x509.NameAttribute(name, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(by, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """In the place of Amazon's."""
    return Authority.made("RDS of the tests")


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Iterator[Cluster]:
    """A server that speaks TLS alone, with a certificate for the copy's endpoint, and production's master user."""
    if not (SYSTEM / "postgres").exists():
        pytest.skip("needs a PostgreSQL that was built with TLS")
    place = Path(tempfile.mkdtemp(prefix="drillbook-tls-"))
    place.chmod(0o755)
    made = make_cluster(place / "cluster", Tools.at(SYSTEM))
    for name, content in zip(("server.crt", "server.key"), authority.signs(ENDPOINT), strict=True):
        path = made.folder / "data" / name
        path.write_bytes(content)
        path.chmod(0o600)
        if made.account is not None:
            os.chown(path, made.account.uid, made.account.gid)
    made.start(QUICK | {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"})
    run_sql(made.address(), f"CREATE ROLE boss LOGIN PASSWORD '{MASTER}'")
    run_sql(made.address(), "CREATE DATABASE billing")
    yield made
    made.destroy()
    shutil.rmtree(place)


def method_of(cloud: Cloud, tls: Cluster, bundle: bytes, **changes: object) -> Rds:
    """The copy's endpoint is reached through a port forward, and the server behind it is the one with TLS."""
    path = cloud.raw.with_name("bundle.pem")
    path.write_bytes(bundle)
    via = {"address": f"postgresql://localhost:{tls.port}/billing"}
    wish = recovery(cloud, "", connect_via=via, **changes)
    return Rds(wish, cloud.aws(), cloud.raw, poll=0.01)


def hand_on_passwords(cloud: Cloud, tls: Cluster) -> None:
    """What AWS is told to set as the copy's master password, the server gets, two looks later."""
    looks = [0]

    def apply(name: str) -> None:
        copy = cloud.moto().databases.get(NAME)
        told = getattr(copy, "_master_user_password", MASTER)
        if name == "DescribeDBInstances" and told != MASTER:
            looks[0] += 1
            if looks[0] == 2:
                run_sql(tls.address(), f"ALTER ROLE boss PASSWORD '{told}'")
            copy.pending_modified_values = {"MasterUserPassword": "****"} if looks[0] < 3 else {}

    cloud.faults.append(apply)


def test_the_copy_is_verified_through_the_forward_and_opens_to_its_own_password(
    cloud: Cloud, tls: Cluster, authority: Authority
) -> None:
    """And no longer to production's."""
    run_sql(tls.address(), f"ALTER ROLE boss PASSWORD '{MASTER}'")
    hand_on_passwords(cloud, tls)
    method = method_of(cloud, tls, _pem(authority.certificate))
    restored = method.restore(method.pick(DRILL, quiet).backup, DRILL, "billing", quiet)
    address = restored.reach.address()
    assert (address.host, address.parts["sslmode"]) == (ENDPOINT, "verify-full")
    assert restored.done.deviations == ()
    with session(address, name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS) as connection:
        row = connection.execute("SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == ("boss", True)
    old = Reach(**{**vars(restored.reach), "password": MASTER})
    with (
        pytest.raises(ConnectError, match="password authentication failed"),
        session(old.address(), name="t", access=Access.READ_ONLY, limits=STAGING_LIMITS),
    ):
        pass


@pytest.mark.parametrize("wrong", ["another authority", "another endpoint"])
def test_a_server_that_is_not_the_copy_is_not_let_have_the_password(
    cloud: Cloud, tls: Cluster, authority: Authority, wrong: str
) -> None:
    """Somebody in between, or a forward that leads elsewhere."""
    bundle = (
        _pem(Authority.made("somebody").certificate) if wrong == "another authority" else _pem(authority.certificate)
    )
    method = method_of(cloud, tls, bundle, connect_timeout=timedelta(milliseconds=100))
    picked = method.pick(DRILL, quiet).backup
    if wrong == "another endpoint":
        service = cloud.aws().service("rds", REGION)
        reach = Reach(method.wish, service, f"other.{REGION}.rds.amazonaws.com", 5432, "boss", "billing", "secret-pw")
        with pytest.raises(ConnectError, match=f"does not match host name .*other.{REGION}") as caught:
            get_in(reach, "t", Deadline(timedelta(seconds=1), 0.01), quiet)
    else:
        with pytest.raises(ConnectError, match="certificate verify failed") as caught:
            method.restore(picked, DRILL, "billing", quiet)
    assert "global-bundle.pem" in caught.value.hint or "ca_bundle" in caught.value.hint


def reach_via(cloud: Cloud, tls: Cluster, bundle: bytes, address: str) -> Reach:
    """The copy, by a way that says itself what is verified."""
    run_sql(tls.address(), f"ALTER ROLE boss PASSWORD '{MASTER}'")
    path = cloud.raw.with_name("bundle.pem")
    path.write_bytes(bundle)
    via = {"address": address.format(port=tls.port)}
    wish = recovery(cloud, "", connect_via=via, connect_timeout=timedelta(milliseconds=100))
    return Reach(wish, cloud.aws().service("rds", REGION), ENDPOINT, 5432, "boss", "billing", MASTER)


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full", "require"])
def test_a_way_that_asks_for_tls_itself_is_verified_by_the_bundle_where_it_asks_for_that(
    cloud: Cloud, tls: Cluster, authority: Authority, mode: str
) -> None:
    """The name that is verified is then that of the way, as where a proxy of the company's speaks TLS."""
    name = f"host={ENDPOINT} hostaddr=127.0.0.1" if mode == "verify-full" else "host=localhost"
    address = f"{name} port={{port}} dbname=billing sslmode={mode}"
    reach = reach_via(cloud, tls, _pem(authority.certificate), address)
    get_in(reach, "t", Deadline(timedelta(seconds=1), 0.01), quiet)
    told = "the certificate of the copy was not verified: connect_via says sslmode="
    assert reach.deviations == (() if mode == "verify-full" else (f"{told}{mode}",))
    wrong = reach_via(cloud, tls, _pem(Authority.made("somebody").certificate), address)
    if mode == "require":
        get_in(wrong, "t", Deadline(timedelta(seconds=1), 0.01), quiet)
    else:
        with pytest.raises(ConnectError, match="certificate verify failed"):
            get_in(wrong, "t", Deadline(timedelta(seconds=1), 0.01), quiet)


def test_a_way_to_another_host_than_its_certificate_names_is_refused(
    cloud: Cloud, tls: Cluster, authority: Authority
) -> None:
    address = "host=localhost port={port} dbname=billing sslmode=verify-full"
    with pytest.raises(ConnectError, match=r"does not match host name .*localhost"):
        get_in(
            reach_via(cloud, tls, _pem(authority.certificate), address),
            "t",
            Deadline(timedelta(seconds=1), 0.01),
            quiet,
        )


def iam_reach(cloud: Cloud, tls: Cluster, bundle: bytes) -> Reach:
    """As a role of the database, by a token."""
    login = {"kind": "iam", "user": "drill"}
    method = method_of(cloud, tls, bundle, login=login, connect_timeout=timedelta(milliseconds=100))
    service = cloud.aws().service("rds", REGION)
    return Reach(method.wish, service, ENDPOINT, 5432, "boss", "billing", "not-used")


def test_every_connection_gets_a_token_of_its_own(
    cloud: Cloud, tls: Cluster, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token lives for fifteen minutes; a drill for hours."""
    reach = iam_reach(cloud, tls, _pem(authority.certificate))
    first = reach.address()
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.now(UTC) + timedelta(hours=1))
    second = reach.address()
    told = [parse_qs(urlsplit(f"//{address.password}").query) for address in (first, second)]
    assert [one["X-Amz-Expires"] for one in told] == [["900"], ["900"]]
    assert told[0]["X-Amz-Date"] != told[1]["X-Amz-Date"]
    assert first.parts["user"] == "drill"
    assert f"{ENDPOINT}:5432/?" in first.password
    assert first.password not in repr(first)


def test_a_token_that_has_expired_is_told_as_that(cloud: Cloud, tls: Cluster, authority: Authority) -> None:
    """RDS refuses it as it refuses a wrong password."""
    reach = iam_reach(cloud, tls, _pem(authority.certificate))
    run_sql(tls.address(), "CREATE ROLE drill LOGIN PASSWORD 'x' VALID UNTIL '2026-01-01'")
    with pytest.raises(ConnectError, match="the token of IAM was refused\nHINT: a token lives for fifteen minutes"):
        get_in(reach, "t", Deadline(timedelta(seconds=1), 0.01), quiet)
    run_sql(tls.address(), "DROP ROLE drill")


def test_a_copy_restored_for_iam_says_so_to_aws(cloud: Cloud, shop: Database) -> None:
    """And the way of the plan has its own password."""
    wish = recovery(cloud, shop.url(shop.reader), login={"kind": "iam", "user": "drill"})
    method = Rds(wish, cloud.aws(), cloud.raw, poll=0.01)
    restored = method.restore(method.pick(DRILL, quiet).backup, DRILL, shop.name, quiet)
    assert cloud.client().describe_db_instances(DBInstanceIdentifier=NAME)["DBInstances"][0][
        "IAMDatabaseAuthenticationEnabled"
    ]
    assert restored.reach.address().parts["user"] == shop.reader.parts["user"]


def test_a_copy_that_nobody_answers_for_says_what_to_look_at(cloud: Cloud, shop: Database) -> None:
    """The wait for it has an end."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x?sslmode=disable"
        wish = recovery(cloud, url, connect_timeout=timedelta(milliseconds=200))
        method = Rds(wish, cloud.aws(), cloud.raw, poll=0.01)
        with pytest.raises(ConnectError, match="Connection refused"):
            method.restore(method.pick(DRILL, quiet).backup, DRILL, shop.name, quiet)


def test_a_forward_without_a_host_is_told(cloud: Cloud) -> None:
    """By its name."""
    wish = recovery(cloud, "", connect_via={"address": "postgresql://x@nowhere.invalid:1/x"})
    reach = Reach(wish, cloud.aws().service("rds", REGION), ENDPOINT, 5432, "boss", "billing", "secret-pw")
    with pytest.raises(ConnectError, match=r"the host of connect_via has no address: nowhere\.invalid"):
        reach.address()
    direct = Reach(recovery(cloud, "", connect_via=None), reach.service, ENDPOINT, 5432, "boss", "billing", "secret-pw")
    assert direct.address().environment() == {
        "PGHOST": ENDPOINT,
        "PGPORT": "5432",
        "PGUSER": "boss",
        "PGDATABASE": "billing",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(cloud.raw.with_name("bundle.pem")),
        "PGPASSWORD": "secret-pw",
    }
