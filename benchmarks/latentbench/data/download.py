"""Download a file: with progress, resuming what broke off, whole or not at all."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

from latentbench.core.bounds import DOWNLOAD_BYTES
from latentbench.core.errors import LatentbenchError, UserError
from latentbench.data.progress import Progress, silent

_BLOCK = 1 << 20
_ATTEMPTS = 3
_TIMEOUT = 30.0


class SourceError(LatentbenchError):
    """A source that did not give what was asked, and why; another may."""


def download(
    url: str, target: Path, progress: Progress = silent, *, size: int | None = None, pause: float = 1.0
) -> None:
    """Get `url` into `target`.

    What has come so far stands in ``<target>.part``; a broken connection is retried, and a later call goes on from
    there if the server still has the same file (HTTP Range with If-Range). `target` appears only when whole.

    Args:
        size: expected number of bytes, if known: checked against the free disk before anything is fetched. A server may
            send that many, and `latentbench.core.bounds.DOWNLOAD_BYTES` where nobody says.
        pause: seconds before the first retry; doubles.

    Raises:
        SourceError: no network, an HTTP error, a connection that keeps breaking, or more bytes than there may be.
        UserError: the disk is full.
    """
    if not url.startswith(("http://", "https://")):
        raise SourceError(f"{url}: only http and https are fetched")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(_ATTEMPTS):
        try:
            _fetch(url, part, progress, size)
            break
        except urllib.error.HTTPError as e:
            if e.code < 500 or attempt + 1 == _ATTEMPTS:
                raise SourceError(f"{url}: HTTP {e.code} {e.reason}") from e
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, _BrokenError) as e:
            nowhere = isinstance(getattr(e, "reason", None), socket.gaierror)  # no network, or no such host: no use
            if nowhere or attempt + 1 == _ATTEMPTS:
                kept = f"; {part.stat().st_size} bytes are kept and the next call resumes" if part.is_file() else ""
                raise SourceError(f"{url}: {getattr(e, 'reason', None) or e or type(e).__name__}{kept}") from e
        time.sleep(pause * 2**attempt)
    _validator(part).unlink(missing_ok=True)
    os.replace(part, target)


class _BrokenError(Exception):
    """The connection ended early."""


def _validator(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _fetch(url: str, part: Path, progress: Progress, size: int | None) -> None:
    headers = {"User-Agent": "latentbench", "Accept-Encoding": "identity"}
    have = part.stat().st_size if part.is_file() else 0
    known = _read_validator(part, url)
    if have and known:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    try:
        reply = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code != 416:
            raise
        part.unlink(missing_ok=True)  # it is no longer the file that we have a part of
        _validator(part).unlink(missing_ok=True)
        raise _BrokenError("the file changed on the server") from e
    with reply:
        resumed = reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if reply.status == 206 and not resumed:
            raise _BrokenError("the server sent another range than asked for")
        have = have if resumed else 0
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length is not None else size
        most = DOWNLOAD_BYTES if size is None else size
        if total is not None and total > most:
            raise _too_large(url, part, most)
        if total is not None:
            _check_space(part, total - have)
        tag = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
        if tag and not tag.startswith("W/"):
            _validator(part).write_text(json.dumps({"url": url, "tag": tag}))
        else:
            _validator(part).unlink(missing_ok=True)
        if _copy(reply, part, have, total, most, f"{part.name.removesuffix('.part')} from {url}", progress) > most:
            raise _too_large(url, part, most)


def _copy(
    reply: http.client.HTTPResponse, part: Path, have: int, total: int | None, most: int, what: str, progress: Progress
) -> int:
    """Append what comes, until it ends or is more than `most` bytes; how many are there."""
    try:
        with part.open("ab" if have else "wb") as file:
            progress(what, have, total)
            while have <= most and (block := reply.read(_BLOCK)):
                file.write(block)
                have += len(block)
                progress(what, have, total)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        part.unlink(missing_ok=True)
        _validator(part).unlink(missing_ok=True)
        raise _full(part, None if total is None else total - have) from e
    if total is not None and have < total:
        raise _BrokenError(f"the connection ended after {have} of {total} bytes")
    return have


def _too_large(url: str, part: Path, most: int) -> SourceError:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)
    return SourceError(f"{url}: it sends more than {most} bytes")


def _read_validator(part: Path, url: str) -> str | None:
    try:
        kept = json.loads(_validator(part).read_bytes())
        return str(kept["tag"]) if kept["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_space(part: Path, needed: int) -> None:
    if shutil.disk_usage(part.parent).free < needed:
        raise _full(part, needed)


def _full(part: Path, needed: int | None) -> UserError:
    more = "" if needed is None else f": {needed / 1e6:.0f} MB are needed"
    return UserError(f"the disk is full{more}", where=part.parent, fix="free space or set LATENTBENCH_DATA")
