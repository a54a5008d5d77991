"""Reading logs of any format: detection by trying, archives, and one fault is one bad record."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import msgspec

from upshot.errors import FormatError, NotFoundError, RecordError, UpshotError
from upshot.io.archives import is_tar, open_members
from upshot.io.files import Input, expand_paths, make_input, open_input, read_json
from upshot.io.json_text import Bad, replace_surrogates
from upshot.io.json_values import is_object
from upshot.io.streams import Limits, NoFolder
from upshot.records import BadRecord, RawConversation
from upshot.sources import fields
from upshot.sources import mapping as mappings
from upshot.sources.detection import Fit, Sample, take_sample
from upshot.sources.formats import FORMATS
from upshot.sources.history import Copies
from upshot.sources.messages import name_results
from upshot.sources.notes import skip
from upshot.sources.outcomes import attach_results
from upshot.sources.speakers import mark_author

Items = Iterator[RawConversation | BadRecord]


class LogFormat(Protocol):
    """What a module of a format offers."""

    def fit(self, sample: Sample) -> Fit:
        """How many of a file's first records it can read."""
        ...

    def read(self, source: Input) -> Items:
        """Conversations and unreadable records of a file, in order.

        A format may offer `SIDE_FILES` too: names of files that belong to its own and hold no
        conversations; they are passed over where they lie beside one. Where a session is many
        files, `is_side_file(sample, folder)` says which of them its main file's reader reads.
        """
        ...


def read(
    logs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Items:
    """Conversations of files, folders, globs, archives or `-`; unreadable records come as
    `BadRecord`.

    Files of no known format come as bad records; a file that is named alone must be readable.
    `mapping`: what lies where in a file of any other shape (`sources.mapping`).

    Raises:
        FormatError: the only file is in no known format.
        InputError: there is no such format.
        NotFoundError: nothing is there.
    """
    paths = [logs] if isinstance(logs, (str, os.PathLike)) else list(logs)
    named = {os.fspath(path) for path in paths}
    limits = limits or Limits()
    copies = Copies()
    files = expand_paths(paths)
    folders: dict[str, list[str]] = {}
    for path in files:
        folders.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    for path in files:
        try:
            beside = folders[os.path.dirname(path)]
            for item in read_file(path, format, mapping, limits, beside=beside):
                if isinstance(item, RawConversation) and _shares_ids(item.source):
                    placed = copies.place(item)
                    if placed is None:
                        skip(item.source, "copies of conversations")
                    else:
                        yield placed
                else:
                    yield item
        except FormatError as error:
            if len(files) == 1 and path in named:
                raise
            yield BadRecord(path, "whole file", _reason_of(error))


@cache
def _shares_ids(format: str) -> bool:
    """Whether messages that were copied into another conversation keep their ids in a format."""
    return format in FORMATS.names and getattr(FORMATS.load(format), "SHARED_IDS", False)


def read_file(
    path: str,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    *,
    beside: Sequence[str] = (),
) -> Items:
    """Conversations of one file, with what tool output says attached to the responses.

    Raises:
        FormatError: the file is in no known format, or holds no conversation.
        InputError: there is no such format.
    """
    source = open_input(path, limits, beside)
    try:
        yield from _read_input(source, format, mapping)
    finally:
        source.close()


def _read_input(source: Input, format: str | None, paths: Mapping[str, str] | None) -> Items:
    if paths:
        yield from _guard(source, mappings.read(source, paths), "--map")
        return
    if format is None and is_tar(source.head) and (members := open_members(source)) is not None:
        yield from _read_members(source.name, members)  # its members' lines are lines of it, too
        return
    sample = take_sample(source)
    if format is None and not sample.head.strip():
        raise FormatError(f"could not read {source.name}: the file is empty")
    name = format or _choose(sample)
    if name is None:
        if (members := open_members(source)) is not None:
            yield from _read_members(source.name, members)
            return
        if _is_side_file(source):
            skip("files beside an export", os.path.basename(source.name))
            return
        if any(_is_part_of(other, sample, source) for other in FORMATS.names):
            return
        raise FormatError(explain_misfit(sample))
    if format is None and _is_part_of(name, sample, source):
        return
    module: LogFormat = FORMATS.load(name)
    ranges = fields.infer_ranges(sample.records)
    items = _guard(source, module.read(source), name)
    while True:
        with fields.assume_ranges(ranges):
            item = next(items, None)
        if item is None:
            return
        yield item


def _read_members(archive: str, members: Iterator[Input]) -> Items:
    """Conversations of an archive's files; other files are bad records."""
    any_read = False
    while True:
        try:
            member = next(members, None)
        except FormatError as error:  # the rest is damaged
            if not any_read:
                raise
            yield BadRecord(archive, "after that", _reason_of(error))
            return
        if member is None:
            break
        try:
            for item in _read_input(member, None, None):
                any_read = any_read or isinstance(item, RawConversation)
                yield item
        except FormatError as error:
            if _is_prose(member):
                skip("files in archives", os.path.splitext(member.name)[1] or "without an ending")
            else:
                yield BadRecord(member.name, "whole file", _reason_of(error))
    if not any_read:
        raise FormatError(f"could not read {archive}: nothing in the archive is a log Upshot reads")


def _is_prose(source: Input) -> bool:
    """Whether a file that no format fits is none that could hold a log: a page, a picture."""
    start = source.head.lstrip()[:1]
    return start not in (b"{", b"[")


def _is_side_file(source: Input) -> bool:
    name = os.path.basename(source.name)
    return any(
        name in getattr(FORMATS.load(other), "SIDE_FILES", ())
        and any(
            source.folder.read(main) is not None
            for main in getattr(FORMATS.load(other), "MAIN_FILES", ())
        )
        for other in FORMATS.names
    )


def _is_part_of(name: str, sample: Sample, source: Input) -> bool:
    """Whether a file is one of several that a session of a format consists of, and not the main
    one; counted where it is.
    """
    probe = getattr(FORMATS.load(name), "is_side_file", None)
    try:
        if probe is None or not probe(sample, source.folder):
            return False
    except Exception:  # noqa: BLE001  # a probe that trips over a file does not know it
        return False
    skip(name, "files of sessions read with their main file")
    return True


def _guard(source: Input, items: Items, name: str) -> Generator[RawConversation | BadRecord]:
    """The items, sound ones only; whatever a reader trips over is one bad record.

    Raises:
        FormatError: nothing was read, good or bad.
    """
    count = 0
    while True:
        try:
            item = next(items)
        except StopIteration:
            break
        except (FormatError, NotFoundError) as error:
            if not count:
                raise
            yield BadRecord(source.name, "after that", _reason_of(error))
            return
        except UpshotError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a file holds must not end the run
            yield BadRecord(source.name, f"after {count} conversations", describe(error))
            return
        count += 1
        if isinstance(item, RawConversation) and not item.id and not item.place:
            item = msgspec.structs.replace(item, place=f"conversation {count}")
        yield finish(item, source.name) if isinstance(item, RawConversation) else item
    if not count:
        raise FormatError(
            f"could not read {source.name}: it looks like {name}, but holds no conversation"
        )


def finish(conversation: RawConversation, file: str) -> RawConversation | BadRecord:
    """A conversation as it is worked on, whoever read it: sound text, the author of every span, and
    the results that tools reported. One that nobody can work on is a bad record of `file`.
    """
    try:
        sound = all(map(_is_sound, conversation.messages)) and _is_encodable(
            conversation.id + conversation.user + conversation.model
        )
        if not sound or conversation.metadata:
            conversation = _mend(conversation)
        if not conversation.messages:
            return BadRecord(file, conversation.place or "a conversation", "it has no messages")
        messages = conversation.messages
        by_tools = any(message.role == "tool" for message in messages)
        if by_tools:
            messages = name_results(messages)
        marked = tuple(map(mark_author, messages))
        if marked != conversation.messages:
            conversation = msgspec.structs.replace(conversation, messages=marked)
        return attach_results(conversation) if by_tools else conversation
    except Exception as error:  # noqa: BLE001
        return BadRecord(file, conversation.place or "a conversation", describe(error))


def _is_sound(message: Any) -> bool:
    return _is_encodable(message.content)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mend(conversation: RawConversation) -> RawConversation:
    """The same without lone surrogates."""
    return msgspec.structs.replace(
        conversation,
        id=replace_surrogates(conversation.id),
        user=replace_surrogates(conversation.user),
        model=replace_surrogates(conversation.model),
        metadata=replace_surrogates(dict(conversation.metadata)),
        messages=tuple(
            m if _is_sound(m) else msgspec.structs.replace(m, content=replace_surrogates(m.content))
            for m in conversation.messages
        ),
    )


def read_each(
    source: Input, records: Iterator[tuple[str, Any]], parse: Callable[[Any], Any]
) -> Items:
    """What `parse` makes of each record: a conversation, several, or None for none.

    Whatever it raises is one bad record.
    """
    for position, record in records:
        if isinstance(record, Bad):
            yield BadRecord(source.name, position, record.reason)
            continue
        try:
            parsed = parse(record)
            conversations = (
                []
                if parsed is None
                else [parsed]
                if isinstance(parsed, RawConversation)
                else list(parsed)
            )
        except Exception as error:  # noqa: BLE001
            yield BadRecord(source.name, position, describe(error))
            continue
        for number, conversation in enumerate(conversations):
            place = position if len(conversations) == 1 else f"{position}.{number + 1}"
            yield msgspec.structs.replace(conversation, place=conversation.place or place)


def object_records(source: Input) -> Iterator[tuple[str, Mapping[str, Any] | BadRecord]]:
    """(position, object) of each value of a file; a bad record for what is none."""
    for position, value in read_json(source):
        if isinstance(value, Bad):
            yield position, BadRecord(source.name, position, value.reason)
        elif is_object(value):
            yield position, value
        else:
            yield position, BadRecord(source.name, position, "not an object")


def describe(error: Exception) -> str:
    """Why a record could not be read, in words; nothing is quoted but what our own errors say."""
    if isinstance(error, RecordError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return f"it is not in the shape of its format ({type(error).__name__})"


def _reason_of(error: UpshotError) -> str:
    text = str(error)
    attempt, colon, reason = text.partition(": ")
    return reason if colon and attempt.startswith("could not read ") else text


def detect(source: Input) -> str:
    """The name of a file's format, by its content.

    Raises:
        FormatError: it is none that Upshot reads.
    """
    sample = take_sample(source)
    name = _choose(sample)
    if name is None:
        raise FormatError(explain_misfit(sample))
    return name


def fits(sample: Sample) -> list[tuple[str, Fit]]:
    """Every format with its fit, the best first; of equals the more special. One bad record makes
    no difference: it must not hand a file to a format that reads less of each record.
    """
    pairs = [(name, _fit(FORMATS.load(name), sample)) for name in FORMATS.names]
    return sorted(pairs, key=lambda pair: -pair[1].forgiving_share)


def _fit(module: Any, sample: Sample) -> Fit:
    try:
        return module.fit(sample)
    except Exception as error:  # noqa: BLE001  # a probe that trips over a file cannot read it
        return Fit(0, len(sample.records), describe(error))


def _choose(sample: Sample) -> str | None:
    name, fit = fits(sample)[0]
    return name if fit.readable else None


def explain_misfit(sample: Sample) -> str:
    """Why a file is in no known format: the nearest two, what its records hold, and a mapping to
    start from.
    """
    nearest = [f"{name} ({fit.missing})" for name, fit in fits(sample) if fit.of and fit.missing][
        :2
    ]
    message = f"could not read {sample.name}: it is in no format that Upshot knows"
    if not sample.records and sample.head.lstrip()[:1] in (b"{", b"["):
        source = make_input(sample.name, iter([sample.head]), NoFolder(), None, Limits())
        faults = (f"{place}: {v.reason}" for place, v in read_json(source) if isinstance(v, Bad))
        message += f"; {next(faults, 'it ends too early')}"
    elif nearest:
        message += f"; nearest: {', '.join(nearest)}"
    if (start := mappings.suggest(sample.records)) is not None:
        fields, suggestion = start
        message += f"; its records hold {fields}; say what lies where: --map {suggestion}"
    return message + "; `upshot read --help` lists the formats"
