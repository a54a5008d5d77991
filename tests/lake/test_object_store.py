"""A lake in an object store: the rows of a local one, with two writers and after an erasure."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.fs
import pytest

import upshot
from upshot.errors import ConfigError
from upshot.lake import Lake
from upshot.records import SCHEMAS

KEY = "a key that is long enough"
UPSHOT = Path(sys.executable).with_name("upshot")


class Store(NamedTuple):
    url: str
    environment: dict[str, str]
    options: dict[str, str]

    def run(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(UPSHOT), *map(str, arguments)],
            env={**os.environ, "UPSHOT_KEY": KEY, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lake(self) -> Lake:
        return Lake(self.url, storage_options=self.options)


def finish(process: subprocess.Popen[str]) -> None:
    errors = process.communicate()[1]
    assert process.returncode == 0, errors


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A bucket of a local S3 server."""
    program = Path(sys.prefix) / "s3-server" / "bin" / "moto_server"
    if not program.exists():
        pytest.skip("the local S3 server is not installed: make .venv/s3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [str(program), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not is_open(port):
            assert server.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        filesystem = pyarrow.fs.S3FileSystem(
            access_key="id",
            secret_key="secret",
            endpoint_override=endpoint,
            region="us-east-1",
            allow_bucket_creation=True,
        )
        filesystem.create_dir("upshot")
        credentials = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
        settings = {
            "aws_endpoint_url": endpoint,
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
        }
        environment = {**credentials, "UPSHOT_LAKE__STORAGE_OPTIONS": json.dumps(settings)}
        options = {**settings, **{name.lower(): value for name, value in credentials.items()}}
        yield Store("s3://upshot/lake", environment, options)
    finally:
        server.terminate()
        server.wait()


def write_log(path: Path, ids: range) -> Path:
    lines: list[str] = []
    for number in ids:
        answers = ["that worked, thanks!", "no, still fails with the same error"]
        messages = [
            {"role": "user", "content": f"rename the loader of case {number}"},
            {"role": "assistant", "content": "Done."},
            {"role": "user", "content": answers[number % 2]},
        ]
        row = {"id": f"c{number}", "user": f"user {number % 7}", "messages": messages}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines))
    return path


def rows_of(lake: Lake) -> list[Any]:
    columns = ["id", "index", "score", "confidence", "label"]
    verdicts = lake.read("verdicts").select(columns).to_pylist()
    messages = lake.read_all_versions("messages", None).select(["user", "index", "text"])
    return [sorted(map(str, verdicts)), sorted(map(str, messages.to_pylist()))]


@pytest.mark.server
@pytest.mark.slow
def test_two_writers_lose_nothing_and_double_nothing_and_erasure_leaves_no_byte(
    tmp_path: Path, store: Store
) -> None:
    logs = [write_log(tmp_path / f"{start}.jsonl", range(start, start + 40)) for start in (0, 20)]
    small = {"UPSHOT_LAKE__CHUNK_MB": "0.003"}  # some ten commits to each table
    writers = [store.run("ingest", log, "--lake", store.url, **small) for log in logs]
    for writer in writers:
        finish(writer)
    lake = store.lake()
    assert lake.version("messages") > 10
    finish(store.run("run", *logs, "--lake", store.url))
    local = subprocess.run(
        [str(UPSHOT), "run", *map(str, logs), "--lake", str(tmp_path / "local")],
        env={**os.environ, "UPSHOT_KEY": KEY},
        capture_output=True,
        check=False,
    )
    assert local.returncode == 0, local.stderr
    assert lake.read("messages").num_rows == 60 * 3
    expected = rows_of(Lake(tmp_path / "local"))
    assert rows_of(store.lake())[0] == expected[0]
    finish(store.run("erase", "--user", "user 3", "--lake", store.url))
    assert store.lake().read("conversations").num_rows == 60 - len(range(3, 60, 7))
    filesystem, root = store.lake().open_filesystem()
    for file in filesystem.get_file_info(pyarrow.fs.FileSelector(root, recursive=True)):
        if file.type == pyarrow.fs.FileType.File:
            with filesystem.open_input_file(file.path) as handle:
                assert b"loader of case 10." not in handle.read()
    finish(store.run("lake", "compact", "--lake", store.url))
    finish(store.run("run", *logs, "--lake", store.url))
    assert {table for table in SCHEMAS if store.lake().exists(table)} == set(SCHEMAS)


@pytest.mark.parametrize(
    "options",
    [{"AWS_S3_ALLOW_UNSAFE_RENAME": "true"}, {"aws_conditional_put": "disabled"}],
)
def test_a_store_in_which_writers_undo_each_other_is_refused(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="overwrite the commit of the other"):
        Lake("s3://bucket/lake", storage_options=options)
    for name, value in options.items():
        monkeypatch.setenv(name.upper(), value)
    with pytest.raises(ConfigError, match="overwrite the commit of the other"):
        Lake("s3://bucket/lake")


def test_what_only_a_local_lake_can_do_is_refused_clearly(
    monkeypatch: pytest.MonkeyPatch, examples: Path
) -> None:
    with pytest.raises(ConfigError, match="name a folder, or a URL that begins with s3://"):
        Lake("gopher://bucket/lake")
    monkeypatch.delenv("UPSHOT_KEY", raising=False)
    with pytest.raises(ConfigError, match="set UPSHOT_KEY"):
        upshot.ingest(examples / "chats.jsonl", "memory://lake")


def test_secrets_of_a_store_are_refused_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "upshot.toml"
    path.write_text('[lake.storage_options]\naws_secret_access_key = "s"\n')
    with pytest.raises(ConfigError, match="set it in the environment"):
        upshot.load(path)
    path.write_text('[lake.storage_options]\naws_region = "eu-west-1"\n')
    options = upshot.load(path).lake.storage_options
    assert options["aws_region"].get_secret_value() == "eu-west-1"
