"""Numbers, times and names as a page shows them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from markupsafe import Markup, escape

from latentbench.core.paths import safe_name

#: Joiners that text needs though they show nothing: of emoji, and of Arabic and Indic letters.
_JOINERS = frozenset("\u200c\u200d")
_ARXIV = re.compile(r"(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?")
MOST_DIGITS = 6


def clean(text: str) -> str:
    """`text` without what steers instead of showing: control characters, and those that turn the direction."""
    return "".join(c if c.isprintable() or c in "\n\t" or c in _JOINERS else "\N{REPLACEMENT CHARACTER}" for c in text)


def decimals(half_width: float | None, value: float | None = None) -> int:
    """Decimals that show a number whose uncertainty is `half_width`: two significant digits of it.

    Without one, four significant digits of the value.
    """
    if half_width is not None and math.isfinite(half_width) and half_width > 0:
        return min(MOST_DIGITS, max(0, 1 - math.floor(math.log10(half_width))))
    if value is None or value == 0 or not math.isfinite(value) or float(value).is_integer():
        return 0
    return min(MOST_DIGITS, max(0, 3 - math.floor(math.log10(abs(value)))))


def number(value: float | None, digits: int | None = None, *, sign: bool = False) -> str:
    """A number with a true minus sign; of great or vanishing ones the power of ten."""
    if value is None:
        return ""
    size = abs(value)
    if size and (size >= 1e6 or (size < 1e-4 and (digits is None or size < 0.5 * 10**-digits))):
        text = f"{value:{'+' if sign else ''}.2e}"
    else:
        text = f"{value:{'+' if sign else ''}.{decimals(None, value) if digits is None else digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def printed(value: float | None) -> str:
    """A number as a paper prints it: no more digits than it was written with."""
    return number(value, digits_of(value)) if value is not None else ""


def digits_of(value: float) -> int:
    """Decimals that a number was written with."""
    text = repr(value)
    return len(text.partition(".")[2]) if "." in text and "e" not in text and not text.endswith(".0") else 0


def compact(value: float | None) -> str:
    """Three significant digits and a thousands' letter: 1.25 M."""
    if value is None:
        return ""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``12 min``, ``3.5 h``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86_400:.0f} days"


def memory(count: int | None) -> str:
    """Bytes as MB or GB."""
    if count is None:
        return ""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def plural(count: int, word: str, many: str | None = None) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def listing(parts: Iterable[str], last: str = "and") -> str:
    """``a, b and c``."""
    words = list(parts)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def jointed(text: str) -> Markup:
    """A name that may break at its joints: after ``_`` and ``-``."""
    return Markup(re.sub(r"([_-])(?=\w)", r"\1<wbr>", str(escape(clean(text)))))


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def web_address(url: str | None) -> str | None:
    """An address that a link may lead to: http or https, and nothing else."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None


def arxiv_address(number_: str | None) -> str | None:
    """The page of an arXiv number; None where it is none."""
    return f"https://arxiv.org/abs/{quote(number_)}" if number_ and _ARXIV.fullmatch(number_) else None


def page_name(identifier: str) -> str:
    """A file's name for what has this identifier."""
    return f"{safe_name(identifier)}.html"


def anchor(*parts: str) -> str:
    """An element's id."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(parts)).strip("-") or "x"


def opening(text: str) -> str:
    """The first paragraph of a note, without marks of headings and code."""
    first = text.strip().split("\n\n", 1)[0]
    return " ".join(line.lstrip("# ").strip() for line in first.splitlines()).replace("`", "")
