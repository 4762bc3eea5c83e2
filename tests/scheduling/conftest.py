"""Stores for tests: a folder, memory, and S3 as moto serves it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from latentbench.scheduling.object_store import Store


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a bucket that a server in this process holds."""
    pytest.importorskip("s3fs", reason="the extra `store` is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(port=0)
    patch = pytest.MonkeyPatch()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        patch.delenv(name, raising=False)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    import s3fs

    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    server.stop()
    patch.undo()


@pytest.fixture
def folder(tmp_path) -> Store:
    """An empty store in a folder."""
    return Store(tmp_path / "store")


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path) -> Store:
    """An empty store of each kind."""
    match request.param:
        case "folder":
            return Store(tmp_path / "store")
        case "memory":
            return Store(f"memory://{uuid.uuid4().hex}")
        case _:
            return Store(f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}")
