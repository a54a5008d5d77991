"""The files inside zip and tar archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping

from upshot.errors import FormatError
from upshot.io.files import Input, make_input
from upshot.io.streams import BLOCK, ArchiveFolder, Limits, read_parts


def is_tar(head: bytes) -> bool:
    """Whether a file that begins like this is a tar archive."""
    return head[257:262] == b"ustar"


def open_members(source: Input) -> Iterator[Input] | None:
    """The files of an archive, in order of their names; None where the file is no archive.

    Raises:
        FormatError: the archive is damaged.
    """
    if source.head[:4] == b"PK\x03\x04":
        return _open_zip(source)
    if is_tar(source.head):
        return _open_tar(source)
    return None


def _open_zip(source: Input) -> Iterator[Input]:
    try:
        handle = (
            io.BytesIO(source.stream.read())
            if source.raw is None or not source.raw.seekable()
            else source.raw
        )
        archive = zipfile.ZipFile(handle)
    except (zipfile.BadZipFile, OSError) as error:
        raise FormatError(f"could not read {source.name}: {error}") from error
    members: dict[str, Callable[[], bytes]] = {
        info.filename: _limited(lambda info=info: archive.read(info), info.file_size, source.limits)
        for info in archive.infolist()
        if not info.is_dir() and not info.flag_bits & 1
    }
    return _make_inputs(source, members)


def _open_tar(source: Input) -> Iterator[Input]:
    members: dict[str, Callable[[], bytes]] = {}
    content, failure = _read_whole(source)
    size = content.getbuffer().nbytes
    try:
        archive = tarfile.open(fileobj=content)  # noqa: SIM115
        for info in archive:
            if info.offset_data + info.size > size:
                failure = failure or FormatError(f"could not read {source.name}: it is cut")
            elif info.isfile():
                members[info.name] = _limited(
                    lambda info=info: _extract(archive, info), info.size, source.limits
                )
    except (tarfile.TarError, OSError) as error:
        failure = failure or FormatError(f"could not read {source.name}: {error}")
    if failure is not None and not members:
        raise failure
    return _make_inputs(source, members, failure)


def _read_whole(source: Input) -> tuple[io.BytesIO, FormatError | None]:
    """A file up to where it is damaged, and how it is."""
    content = io.BytesIO()
    try:
        while block := source.stream.read(BLOCK):
            content.write(block)
    except FormatError as error:
        content.seek(0)
        return content, error
    content.seek(0)
    return content, None


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    handle = archive.extractfile(info)
    return b"" if handle is None else handle.read()


def _limited(read: Callable[[], bytes], size: int, limits: Limits) -> Callable[[], bytes]:
    def read_within() -> bytes:
        if size > limits.decompressed:
            raise FormatError(
                f"it decompresses to {size / 1e6:,.0f} MB, more than"
                f" {limits.decompressed / 1e6:,.0f}; raise sources.decompressed_mb if that is meant"
            )
        try:
            return read()
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
            raise FormatError(f"the archive is damaged: {error}") from error

    return read_within


def _make_inputs(
    source: Input,
    members: Mapping[str, Callable[[], bytes]],
    failure: FormatError | None = None,
) -> Iterator[Input]:
    for name in sorted(members):
        folder = ArchiveFolder(members, name[: name.rfind("/") + 1])
        try:
            content = members[name]()
        except FormatError as error:
            content, parts = b"", _fail(error)
        else:
            parts = read_parts(io.BytesIO(content))
        yield make_input(f"{source.name}!{name}", parts, folder, None, source.limits)
    if failure is not None:
        raise failure


def _fail(error: FormatError) -> Iterator[bytes]:
    yield b""
    raise error
