"""Tiny datasets in official formats, a data folder of their own, and a server on 127.0.0.1."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import yaml


def idx(values):
    """An IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    return header + np.ascontiguousarray(values, np.uint8).tobytes()


def mnist_files(train=30, test=10, seed=0):
    """Name -> bytes of the four files of a tiny MNIST, and the arrays in them."""
    rng = np.random.default_rng(seed)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (train, 28, 28)),
        "train-labels-idx1-ubyte.gz": rng.integers(0, 10, train),
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (test, 28, 28)),
        "t10k-labels-idx1-ubyte.gz": rng.integers(0, 10, test),
    }
    return {name: gzip.compress(idx(a), mtime=0) for name, a in arrays.items()}, arrays


def entry(name="tiny", files=(), loader="latentbench.data.loaders.idx:load", rows=(30, 10), **changes):
    """A registry entry as plain data."""
    return {
        "name": name,
        "title": "Tiny",
        "kind": "real",
        "modality": "image",
        "about": "Noise in the format of MNIST.",
        "citation": "none",
        "licence": "none",
        "forms": [{"loader": loader, "files": list(files)}],
        "splits": {"train": {"rows": rows[0]}, "test": {"rows": rows[1]}},
        "columns": {
            "x": {"shape": [28, 28], "dtype": "uint8", "levels": 256},
            "y": {"dtype": "int64", "levels": 10},
        },
        "protocols": {"plain": {"train": "train[:20]", "valid": "train[20:]", "test": "test"}},
        **changes,
    }


def sha(raw):
    return hashlib.sha256(raw).hexdigest()


def mnist_entry(files, *, mirror="tiny", urls=None, hashed=True, **changes):
    """An entry whose files lie in the mirror folder `mirror` and at ``<urls>/<name>``."""
    declared = []
    for name, raw in files.items():
        one = {"name": name}
        if mirror is not None:
            one["mirror"] = f"{mirror}/{name}"
        if urls is not None:
            one["urls"] = [f"{urls}/{name}"]
        if hashed:
            one["sha256"] = sha(raw)
        declared.append(one)
    return entry(files=declared, **changes)


class Workplace:
    """A data folder and a mirror folder that belong to one test."""

    def __init__(self, root: Path) -> None:
        self.data, self.mirror = root / "data", root / "mirror"
        (self.data / "registry").mkdir(parents=True)
        self.mirror.mkdir()

    def declare(self, content):
        (self.data / "registry" / f"{content['name']}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def put(self, files, folder="tiny"):
        """Write files into the mirror."""
        (self.mirror / folder).mkdir(exist_ok=True)
        for name, raw in files.items():
            (self.mirror / folder / name).write_bytes(raw)

    @property
    def prepared(self):
        """What lies under prepared/, locks aside."""
        folder = self.data / "prepared"
        return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) if folder.is_dir() else []


class Server:
    """Serves `files` with ranges and ETags; `cut` bytes of each reply are sent before the connection breaks."""

    def __init__(self, files):
        self.files, self.cut, self.ranges, self.broken, self.requests = dict(files), None, True, 0, []
        self.says_length = True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request):
        name = request.path.lstrip("/")
        asked = request.headers.get("Range")
        self.requests.append((name, asked))
        if name not in self.files:
            request.send_error(404)
            return
        raw = self.files[name]
        tag = f'"{sha(raw)[:16]}"'
        start = 0
        if asked and self.ranges and request.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start:
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")
        else:
            request.send_response(200)
        if self.says_length:
            request.send_header("Content-Length", str(len(raw) - start))
        request.send_header("ETag", tag)
        request.end_headers()
        body = raw[start:]
        if self.cut is not None and self.broken > 0:
            self.broken -= 1
            body = body[: self.cut]
            request.close_connection = True
        with contextlib.suppress(OSError):
            request.wfile.write(body)
            request.wfile.flush()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
