r"""References to secrets, and keeping the secrets themselves out of everything that is written.

Owns the forms `env:NAME`, `file:/path` and `aws:NAME` (AWS Secrets Manager). Refuses anything else, and a secret that
is empty, not text, or has a NUL in it. Guarantees that a secret which was resolved here is masked in every text that
passes `redact`: plain, and as URLs, connection strings, SQL, JSON, Python and shells quote it; one of fewer than
`LONG` characters only where it is not part of a longer word, since `app` stands in "application" too. Of a secret with
several lines each long one is masked by itself, since logs are cut at lines. What merely looks like a password in an
address, a connection string or a statement is masked too; rather too much than too little.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

from drills.errors import SecretError

REFERENCE = re.compile(r"(env|aws|file(?=:/)):(\S+)")
REFERENCE_PATTERN = r"^(env:|aws:|file:/)\S+$"
"""The same, as the JSON Schema states it."""
MASK = "[secret]"
LONG = 8
"""Characters of a text that is no part of a word by accident."""

# Up to the last @ of the word: a password that should have been quoted may hold an @ or a slash itself.
_URL_PASSWORD = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]{0,20}://[^:/@\s]*):[^\s\"'<>]{1,4096}@", re.IGNORECASE)
_QUOTED = r"'(?:[^'\\]|\\.|'')*(?:'|\Z)"
_KEY_PASSWORD = re.compile(rf"(?P<head>(?:\b|PG|ssl)password\s*=\s*)(?:{_QUOTED}|[^\s&]+)", re.IGNORECASE | re.DOTALL)
_SQL_PASSWORD = re.compile(rf"(?P<head>\bpassword\s+){_QUOTED}", re.IGNORECASE | re.DOTALL)
_NO_LETTER = re.compile(
    r"(?:%[0-9a-f]{2}|\\(?:[a-z]|x[0-9a-f]{2}|u[0-9a-f]{4}|[0-7]{3})|(?:\x1b|\\(?:x1b|u001b|033|e))\[[\d;]*m|(?<![^\W_])-[a-z])\Z",
    re.IGNORECASE,
)
"""What ends in a letter or digit and is no word that goes on: an escape, a terminal's colour, an option (`-papp`)."""
_LONGEST_SUCH = 32


class Vault:
    """The secrets that one process has resolved, so that they can be masked wherever text leaves it."""

    def __init__(self) -> None:
        self._known: frozenset[tuple[str, str]] = frozenset()
        """Each way to spell a secret, and the secret."""

    def resolve(self, reference: str) -> str:
        """The secret that a reference leads to.

        Raises:
            SecretError: the form is unknown, or nothing that can serve as a secret is there.
        """
        match = REFERENCE.fullmatch(reference)
        if match is None:
            raise SecretError(
                "not a reference to a secret: expected env:NAME, file:/path or aws:NAME",
                hint="a secret itself never stands in a plan or on a command line",
            )
        found = _SOURCES[match[1]](match[2])
        if not found.strip():
            raise SecretError(f"the secret {reference} is empty", hint="an empty password is not sent; set it")
        # A lone surrogate is how Python holds a byte that is not UTF-8; neither it nor a NUL can be handed on.
        if "\0" in found or any("\ud800" <= letter <= "\udfff" for letter in found):
            raise SecretError(f"the secret {reference} is not text", hint="a secret is UTF-8 text without NUL")
        self.know(found)
        return found

    def know(self, secret: str) -> None:
        """Mask this text from now on."""
        lines = [line for line in map(str.strip, secret.splitlines()) if len(line) >= LONG]
        self._known |= {(form, text) for text in (secret, *lines) for form in _forms(text) if form}

    def redact(self, text: str) -> str:
        """The text with every known secret, and whatever looks like a password, masked."""
        text = _mask(text, sorted(span for form, secret in self._known for span in _places(form, secret, text)))
        text = _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text)
        text = _KEY_PASSWORD.sub(rf"\g<head>{MASK}", text)
        return _SQL_PASSWORD.sub(rf"\g<head>{MASK}", text)


def _forms(secret: str) -> Iterator[str]:
    """The secret as it may be spelled in a text."""
    yield secret
    for quoted in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), quoted)
    yield secret.replace("\\", "\\\\").replace("'", "\\'")  # connection string, E'' literal
    yield secret.replace("'", "''")  # SQL literal
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield shlex.quote(secret).removeprefix("'").removesuffix("'")


def _places(form: str, secret: str, text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of each occurrence, those that overlap included."""
    begin = text.find(form)
    while begin >= 0:
        end = begin + len(form)
        if len(secret) >= LONG or not _in_word(secret, text, begin, end):
            yield begin, end
        begin = text.find(form, begin + 1)


def _in_word(secret: str, text: str, begin: int, end: int) -> bool:
    """Whether it is part of a longer run of letters and digits there."""
    before, after = text[max(begin - _LONGEST_SUCH, 0) : begin], text[end : end + 1]
    goes_on = secret[0].isalnum() and before[-1:].isalnum() and not _NO_LETTER.search(before)
    return goes_on or (secret[-1].isalnum() and after.isalnum())


def _mask(text: str, places: list[tuple[int, int]]) -> str:
    """The text with these places masked; places that touch or overlap become one mask."""
    kept: list[str] = []
    reached = 0
    for begin, end in places:
        if begin > reached or not kept:
            kept += [text[reached:begin], MASK]
        reached = max(reached, end)
    return "".join([*kept, text[reached:]])


def _from_env(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise SecretError(
            f"the environment variable {name} is not set", hint=f"export {name}, or mend the reference env:{name}"
        ) from None


def _from_file(path: str) -> str:
    """The file's text without the line ends that editors put after it."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise SecretError(
            f"the secret file {path} cannot be read ({type(error).__name__})",
            hint="it must be UTF-8 text, readable by the account that runs the drill",
        ) from None


def _from_aws(name: str) -> str:
    import boto3  # noqa: PLC0415 - slow to import, and rarely wanted
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415 - same

    try:
        answer = boto3.client("secretsmanager").get_secret_value(SecretId=name)
    except (BotoCoreError, ClientError) as error:
        raise SecretError(
            f"AWS Secrets Manager did not give the secret {name}: {error}",
            hint="check its name, its region (AWS_DEFAULT_REGION) and the permission secretsmanager:GetSecretValue",
        ) from None
    if "SecretString" not in answer:
        raise SecretError(f"the secret aws:{name} is binary", hint="store it as text (SecretString)")
    return str(answer["SecretString"])


_SOURCES = {"env": _from_env, "file": _from_file, "aws": _from_aws}

VAULT = Vault()
"""This process's secrets. One for all, because a secret must be masked wherever it turns up."""
