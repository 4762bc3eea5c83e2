"""What must neither be shown nor written down: secrets of the environment, and passwords inside addresses.

Every pattern takes time in proportion to the text, which may be a megabyte that somebody sent.
"""

from __future__ import annotations

import os
import re

HIDDEN = "***"
#: Shorter values would hide ordinary words; of what is called a password outright, shorter ones count, too.
SHORTEST, SHORTEST_PASSWORD = 6, 4
_PASSWORD = re.compile(r"(?:PASS|PASSWD|PASSWORD|PASSPHRASE|PASSCODE)(?:_|$)|_(?:PWD|PW)$", re.I)
#: Names of variables: words between underscores, or, of what is written in one word, the last.
_NAME = re.compile(
    r"(?:^|_)(?:KEY|APIKEY|TOKENS?|PAT|JWT|SECRETS?|PASS|CREDENTIALS?|CREDS|AUTH|COOKIE|DSN|SAS|SIGNATURE|WEBHOOKS?"
    r"|CONNECTION_?STRING|CONNSTR)(?:_|$)"
    r"|(?:SSHPASS|PASSWD|PASSWORD|PASSPHRASE|PASSCODE|APIKEY|AUTHKEY|TOKEN|SECRET)(?:_|$)|_(?:PWD|PW)$",
    re.I,
)
_WORD = (
    r"(?:api[_-]?key|access[_-]?key|account[_-]?key|auth[_-]?key|private[_-]?key|client[_-]?secret|token|secret"
    r"|password|passwd|passphrase|pwd|signature|credential"
)
#: What stands in an address before the host, and what is told by its own form or by the name before it.
_FORMS = (
    re.compile(r"(?<=://)[^/\s@'\"]+(?=@)"),
    re.compile(r"(?i)(?<=hooks\.slack\.com/)[^\s'\"<>]+|(?<=/api/webhooks/)[^\s'\"<>]+|(?<=/webhookb2/)[^\s'\"<>]+"),
    re.compile(r"\b(?:gh[pousr]_|github_pat_|hf_|sk-|glpat-|xox[abeprs]-|AKIA|ASIA)[A-Za-z0-9_-]{12,}"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/-]{8,}=*"),
    re.compile(r"(?i)(?<=basic )[A-Za-z0-9+/]{8,}=*"),
)
#: ``token=…``, whatever its name begins with, and ``?sig=…``; and ``"secret": "…"``.
_NAMED = re.compile(rf"(?i)({_WORD})=|[?&;]sig=)([^\s&'\"]+)")
_QUOTED = re.compile(rf"(?i)({_WORD}|[\"']auth|identitytoken)[\"'][ ]{{0,8}}:[ ]{{0,8}}[\"'])([^\"']+)")
_IN_ADDRESS = re.compile(r"://[^/\s@:]*:([^/\s@]+)@")


def without_secrets(text: str) -> str:
    """`text` with every secret in it replaced by ``***``.

    A secret is the value of an environment variable whose name says so (KEY, TOKEN, PASSWORD, PGPASSWORD …) or the
    password inside an address or a connection string in any variable, the user's part of an address
    (``user:password@``), the path of a webhook, what follows ``token=`` and its like, or a token known by its prefix.
    """
    for value in _values():
        text = text.replace(value, HIDDEN)
    for form in _FORMS:
        text = form.sub(HIDDEN, text)
    return _QUOTED.sub(rf"\g<1>{HIDDEN}", _NAMED.sub(rf"\g<1>{HIDDEN}", text))


def hide_in_arguments(arguments: list[str]) -> list[str]:
    """A command line without its secrets; what follows an option called ``--token`` and the like is one, too."""
    shown: list[str] = []
    for i, argument in enumerate(arguments):
        before = arguments[i - 1] if i else ""
        named = before.startswith("-") and "=" not in before and _NAME.search(before.lstrip("-").replace("-", "_"))
        shown.append(HIDDEN if named and not argument.startswith("-") else without_secrets(argument))
    return shown


def _values() -> list[str]:
    """Secret values of the environment, the longest first; of those in several lines, each line."""
    found: set[str] = set()
    for name, value in os.environ.items():
        least = SHORTEST_PASSWORD if _PASSWORD.search(name) else SHORTEST
        inside = [
            part for form in (_NAMED, _QUOTED) for m in form.finditer(value) for part in (m[2], m[2].split(";")[0])
        ]
        inside += [m[1] for m in _IN_ADDRESS.finditer(value)]
        lines = value.splitlines() if _NAME.search(name) else []
        found |= {v for v in map(str.strip, lines) if len(v) >= least}
        found |= {v for v in inside if len(v) >= SHORTEST_PASSWORD}
    return sorted(found - {HIDDEN}, key=len, reverse=True)
