"""What must neither be shown nor written down: secrets of the environment, and passwords inside addresses."""

from __future__ import annotations

import os
import re

HIDDEN = "***"
#: Shorter values would hide ordinary words.
SHORTEST = 8
_NAME = re.compile(
    r"(^|_)(KEY|APIKEY|TOKEN|PAT|SECRETS?|PASS|PASSWD|PASSWORD|PASSPHRASE|CREDENTIALS?|AUTH|COOKIE|DSN)(_|$)", re.I
)
#: What stands in an address before the host, and what is told by its own form or by the name before it.
_FORMS = (
    re.compile(r"(?<=://)[^/\s@'\"]+(?=@)"),
    re.compile(r"\b(?:gh[pousr]_|github_pat_|hf_|sk-|glpat-|xox[abeprs]-|AKIA|ASIA)[A-Za-z0-9_-]{12,}"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/-]{8,}=*"),
    re.compile(r"(?i)(?<=basic )[A-Za-z0-9+/]{8,}=*"),
)
_NAMED = re.compile(
    r"(?i)\b([\w-]*(?:api[_-]?key|access[_-]?key|token|secret|password|passwd|signature|credential)=)[^\s&'\"]+"
)


def without_secrets(text: str) -> str:
    """`text` with every secret in it replaced by ``***``.

    A secret is the value of an environment variable whose name says so (KEY, TOKEN, PASSWORD …), the user's part of an
    address (``user:password@``), what follows ``token=`` and its like, or a token known by its prefix.
    """
    for value in _values():
        text = text.replace(value, HIDDEN)
    for form in _FORMS:
        text = form.sub(HIDDEN, text)
    return _NAMED.sub(rf"\g<1>{HIDDEN}", text)


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
    found = {line.strip() for name, value in os.environ.items() if _NAME.search(name) for line in value.splitlines()}
    return sorted((v for v in found if len(v) >= SHORTEST), key=len, reverse=True)
