"""Where references lead, and that no text which passes `redact` holds a secret."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from drills.errors import SecretError
from drills.secrets import MASK, REFERENCE, REFERENCE_PATTERN, Vault

AWKWARD = 'p@ss/w\'o\\rd "x" é+%&'


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets Manager as moto plays it."""
    moto = import_module("moto")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with moto.mock_aws():
        yield


def test_a_variable_gives_its_value(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", AWKWARD)
    assert vault.resolve("env:DB_PASSWORD") == AWKWARD
    assert vault.redact(f"so {AWKWARD} it is") == f"so {MASK} it is"


def test_a_file_gives_its_text_without_the_last_line_end(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(f" {AWKWARD} \r\n".encode())
    assert vault.resolve(f"file:{path}") == f" {AWKWARD} "


def test_a_secret_of_aws_gives_its_string(vault: Vault, aws: None) -> None:
    import boto3  # noqa: PLC0415 - under moto only

    boto3.client("secretsmanager").create_secret(Name="prod/billing", SecretString=AWKWARD)
    assert vault.resolve("aws:prod/billing") == AWKWARD
    assert vault.redact(AWKWARD) == MASK


def test_a_secret_of_aws_that_is_not_there_is_named(vault: Vault, aws: None) -> None:
    with pytest.raises(SecretError, match=r"did not give the secret prod/none: .*ResourceNotFoundException"):
        vault.resolve("aws:prod/none")


def test_a_binary_secret_of_aws_is_refused_as_such(vault: Vault, aws: None) -> None:
    import boto3  # noqa: PLC0415 - under moto only

    boto3.client("secretsmanager").create_secret(Name="prod/key", SecretBinary=b"hunter2")
    with pytest.raises(SecretError, match="aws:prod/key is binary") as caught:
        vault.resolve("aws:prod/key")
    assert "hunter2" not in str(caught.value)


def test_aws_without_a_region_is_an_error_with_a_hint(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(SecretError, match="region"):
        vault.resolve("aws:prod/billing")


@pytest.mark.parametrize(
    "reference",
    ["hunter2", "", "vault:hunter2", "env:", "env:A B", "file:hunter2", "ENV:hunter2", "env:A\n", "xenv:hunter2"],
)
def test_what_is_no_reference_is_refused_and_not_repeated(vault: Vault, reference: str) -> None:
    with pytest.raises(SecretError, match="not a reference to a secret") as caught:
        vault.resolve(reference)
    assert "hunter2" not in str(caught.value)


def test_the_schema_and_the_code_agree_on_what_a_reference_is() -> None:
    for text in ("env:A", "file:/a", "file:a", "aws:a/b", "aws:", "env:a b", "vault:x", "aws:arn:aws:secretsmanager:x"):
        assert bool(REFERENCE.fullmatch(text)) == bool(re.search(REFERENCE_PATTERN, text)), text


def test_a_variable_that_is_not_set_is_named(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(SecretError, match="the environment variable NOT_SET is not set\nHINT: export NOT_SET"):
        vault.resolve("env:NOT_SET")


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_secret_is_refused(vault: Vault, monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    monkeypatch.setenv("EMPTY", empty)
    with pytest.raises(SecretError, match="the secret env:EMPTY is empty"):
        vault.resolve("env:EMPTY")


def test_a_file_that_cannot_be_read_is_named(vault: Vault, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SecretError, match="cannot be read"):
            vault.resolve(f"file:{path}")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SecretError, match="is empty"):
        vault.resolve(f"file:{tmp_path / 'empty'}")


@pytest.mark.parametrize("content", [b"hunter2\xff", b"hunter2\0x"])
def test_a_file_that_is_not_text_is_refused_and_not_repeated(vault: Vault, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "password").write_bytes(content)
    with pytest.raises(SecretError) as caught:
        vault.resolve(f"file:{tmp_path / 'password'}")
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


def test_a_variable_that_is_not_utf8_is_refused_and_not_repeated(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAW", b"hunter2\xff".decode("utf-8", "surrogateescape"))
    with pytest.raises(SecretError, match="the secret env:RAW is not text"):
        vault.resolve("env:RAW")


def conninfo_quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


@pytest.mark.parametrize(
    "spelled",
    [
        AWKWARD,
        quote(AWKWARD),
        quote(AWKWARD, safe=""),
        quote_plus(AWKWARD),
        re.sub("%..", lambda code: code[0].lower(), quote(AWKWARD, safe="")),
        conninfo_quoted(AWKWARD),
        AWKWARD.replace("'", "''"),
        json.dumps(AWKWARD)[1:-1],
        json.dumps(AWKWARD, ensure_ascii=False)[1:-1],
        repr(AWKWARD)[1:-1],
        shlex.quote(AWKWARD)[1:-1],
    ],
)
def test_a_secret_is_masked_however_it_is_spelled(vault: Vault, spelled: str) -> None:
    assert spelled in f"it said <{spelled}> twice"
    vault.know(AWKWARD)
    assert vault.redact(f"it said <{spelled}> twice") == f"it said <{MASK}> twice"


def test_backslashes_and_quotes_are_masked_as_a_connection_string_escapes_them(vault: Vault) -> None:
    secret = "a'b\\c"
    vault.know(secret)
    assert vault.redact(f"<{conninfo_quoted(secret)}>") == f"<{MASK}>"


def test_a_secret_of_several_lines_is_masked_whole_and_line_by_line(vault: Vault) -> None:
    vault.know("-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----")
    assert vault.redact("a -----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY----- b") == f"a {MASK} b"
    assert vault.redact("log: MIIEvQIBADANBg") == f"log: {MASK}"
    assert vault.redact("-----BEGIN KEY-----\\nMIIEvQIBADANBg\\n}\\n-----END KEY-----") == MASK
    assert vault.redact("{}") == "{}", "a line of one character would mask every brace"


@pytest.mark.parametrize("order", [("abcd1234", "1234efgh"), ("1234efgh", "abcd1234")])
def test_secrets_that_overlap_in_a_text_leave_nothing_of_either(order: tuple[str, str]) -> None:
    vault = Vault()
    for secret in order:
        vault.know(secret)
    assert vault.redact("x abcd1234efgh y 1234efgh abcd1234") == f"x {MASK} y {MASK} {MASK}"


def test_a_secret_that_overlaps_itself_is_masked_to_its_end(vault: Vault) -> None:
    vault.know("abc-abc-abc")
    assert vault.redact("x abc-abc-abc-abc y") == f"x {MASK} y"


@pytest.mark.parametrize(
    "text", ["the application app1 of apple", "snapshot, wrapped; happy", "DR-20261121T220900Z-myapp", "r%C3%A9app1"]
)
def test_a_short_secret_leaves_longer_words_as_they_are(vault: Vault, text: str) -> None:
    vault.know("app")
    assert vault.redact(text) == text


def test_a_long_secret_is_masked_inside_a_word_too(vault: Vault) -> None:
    vault.know("appliance")
    assert vault.redact("myappliances") == f"my{MASK}s"


@pytest.mark.parametrize("secret", ["app", "p7", "é1", "a'b\\c", "p@s s%", "+x=", "7"])
@pytest.mark.parametrize(
    "text",
    [
        "({})", "PGPASS={}", "key:{}@host/d", "<{}", "{}>", "pw={}&b", "'{}'", '"{}"', "h:5432:d:u:{}\nnext", "a,{},b",
        "\x1b[31m{}\x1b[0m", "psql -W{} d", "a_{}_b", "\0{}\0", "'x\\n{}\\n'", "--pw={}",
    ],
)  # fmt: skip
def test_a_short_secret_is_masked_wherever_it_stands_by_itself(vault: Vault, secret: str, text: str) -> None:
    vault.know(secret)
    for spelled in (secret, quote(secret, safe=""), conninfo_quoted(secret), json.dumps(secret)[1:-1]):
        assert vault.redact(text.format(spelled)) == text.format(MASK)


def test_a_short_secret_is_masked_between_what_a_url_escapes(vault: Vault) -> None:
    vault.know("app")
    text = "?options=-c%20pw%3Dapp%26x&" + quote('{"k":"app"}é', safe="")
    assert vault.redact(text) == text.replace("app", MASK)


def test_a_secret_inside_another_leaves_nothing_of_the_longer(vault: Vault) -> None:
    vault.know("pass")
    vault.know("my-pass-word")
    assert vault.redact("my-pass-word pass") == f"{MASK} {MASK}"


def test_a_secret_that_is_part_of_the_mask_does_not_mask_the_mask(vault: Vault) -> None:
    for secret in ("secret", "e", "]"):
        vault.know(secret)
    assert vault.redact("the secret e]") == f"the {MASK} {MASK}"


def test_an_empty_text_is_never_taken_for_a_secret(vault: Vault) -> None:
    vault.know("")
    assert vault.redact("as it was") == "as it was"


def test_a_quote_alone_is_no_form_of_any_secret(vault: Vault) -> None:
    vault.know("plain")
    assert vault.redact("it's 'plain' text") == f"it's '{MASK}' text"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:hunter2@h/d", f"postgresql://u:{MASK}@h/d"),
        ("postgresql+psycopg://u:hunter2@h/d", f"postgresql+psycopg://u:{MASK}@h/d"),
        ("POSTGRES://u:hunt/er2@h/d", f"POSTGRES://u:{MASK}@h/d"),
        ("postgres://u:hunt@er2@h/d, and more", f"postgres://u:{MASK}@h/d, and more"),
        ("password=hunter2 host=h", f"password={MASK} host=h"),
        ("password = 'hunter2 \\' hunter2' host=h", f"password = {MASK} host=h"),
        ("password='hunter2 never ends", f"password={MASK}"),
        ("password=hun'ter2 host=h", f"password={MASK} host=h"),
        ("?password=hunter2&sslmode=require", f"?password={MASK}&sslmode=require"),
        ("sslpassword=hunter2", f"sslpassword={MASK}"),
        ("PGPASSWORD=hunter2 pg_dump", f"PGPASSWORD={MASK} pg_dump"),
        ("ALTER ROLE r PASSWORD 'hunter''2'; SELECT 1", f"ALTER ROLE r PASSWORD {MASK}; SELECT 1"),
    ],
)
def test_what_looks_like_a_password_is_masked_though_nobody_knew_it(vault: Vault, text: str, expected: str) -> None:
    assert vault.redact(text) == expected
    assert vault.redact(expected) == expected, "masking twice changes nothing"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u@h:5432/d",
        "http://127.0.0.1:4200/api",
        'password authentication failed for user "drillbook"',
        "write it as a reference under `password:`",
        "write to ops@example.com at 10:30",
        "",
    ],
)
def test_what_holds_no_password_is_left_as_it_is(vault: Vault, text: str) -> None:
    assert vault.redact(text) == text


def test_a_long_log_is_masked_in_reasonable_time(vault: Vault) -> None:
    vault.know("hunter2")
    log = "a-" * 200_000 + "hunter2 " * 20_000 + "x://" * 20_000
    assert "hunter2" not in vault.redact(log)
