"""Which conversation a log speaks of: one that the lake has, one that goes on, or another.

A conversation is named by its user, its source and its id in the log; one without an id by all of
its content and its place in its file. A longer version counts instead of a shorter one only where
it continues it, message by message; a version that differs is another conversation: both stay.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import msgspec

from upshot.io.arrow import pc
from upshot.privacy import Pseudonyms
from upshot.privacy.clean import make_content_id, make_safe_id, names_of
from upshot.privacy.pseudonyms import fold_name
from upshot.records import CleanTable, RawConversation, RawMessage

Relation = Literal["new", "same", "longer", "older", "clash"]
_LINK = 4
"""Bytes per message; two histories agree by chance in one of four thousand million."""


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A conversation under the name that it has in the lake."""

    conversation: RawConversation
    identity: str
    chain: bytes
    """Four bytes for each message, each of which depends on all before it."""


class Version(NamedTuple):
    """What is known of a conversation in the lake."""

    name: str
    chain: bytes


class Identities:
    """The conversations of a lake, and those that an ingest adds."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._versions: dict[str, list[Version]] = {}
        self._owners: dict[str, str] = {}
        """Identity by name in the lake."""
        self._names: dict[str, str] = {}
        """Name in the lake by identity, of the version read last: what its branches refer to."""
        self.clashes: list[str] = []
        """Names of conversations whose id already stood for another."""

    @classmethod
    def of_rows(cls, table: CleanTable, pseudonyms: Pseudonyms) -> Identities:
        """Those of a lake's table of conversations: its `id`, `identity` and `chain`."""
        identities = cls(pseudonyms)
        table = table.filter(pc.not_equal(pc.fill_null(table["identity"], ""), ""))
        for name, identity, chain in zip(
            *(table[column].to_pylist() for column in ("id", "identity", "chain")), strict=True
        ):
            identities._versions.setdefault(identity, []).append(Version(name, chain or b""))
            identities._owners[name] = identity
        return identities

    def place(self, conversation: RawConversation) -> tuple[Placed, Relation]:
        """The conversation under its name in the lake, and what it is to those that are there."""
        original = conversation.id or make_content_id(conversation)
        identity = self._identify(conversation, original)
        chain = make_chain(conversation, self._pseudonyms)
        safe = make_safe_id(original, self._pseudonyms, names_of(conversation))
        name, relation = self._find(identity, chain, safe)
        self._names[identity] = name
        changes: dict[str, str] = {"id": name}
        if conversation.branch_of:
            changes["branch_of"] = self._refer(conversation, conversation.branch_of)
        if conversation.parent:
            changes["parent"] = self._refer(conversation, conversation.parent)
        placed = msgspec.structs.replace(
            conversation,
            user=conversation.user or f"conversation/{conversation.branch_of or original}",
            **changes,
        )
        return Placed(placed, identity, chain), relation

    def _identify(self, conversation: RawConversation, name: str) -> str:
        owner = fold_name(conversation.user) if conversation.user else ""
        return self._pseudonyms.mark("identity", owner, conversation.source, name)

    def _refer(self, conversation: RawConversation, name: str) -> str:
        """The name in the lake of a conversation that another one's log names."""
        own = self._names.get(self._identify(conversation, name))
        return own or make_safe_id(name, self._pseudonyms, names_of(conversation))

    def _find(self, identity: str, chain: bytes, base: str) -> tuple[str, Relation]:
        versions = self._versions.setdefault(identity, [])
        for place, version in enumerate(versions):
            if version.chain == chain:
                return version.name, "same"
            if chain.startswith(version.chain):
                versions[place] = Version(version.name, chain)
                return version.name, "longer"
            if version.chain.startswith(chain):
                return version.name, "older"
        name = base
        if self._owners.get(name, identity) != identity:
            name = f"{base}~{identity[:8]}"
            self.clashes.append(name)
        if versions:
            own = hashlib.blake2b(chain, digest_size=4).hexdigest()
            name = f"{base}~{own}"
            self.clashes.append(name)
        self._owners[name] = identity
        versions.append(Version(name, chain))
        return name, "clash" if len(versions) > 1 or name != base else "new"


def make_chain(conversation: RawConversation, pseudonyms: Pseudonyms) -> bytes:
    """Four bytes for each message, each of which depends on all before it and on the key."""
    state = hashlib.blake2b(pseudonyms.mark("chain").encode(), digest_size=_LINK)
    chain = bytearray()
    for message in conversation.messages:
        state.update(_text_of(message))
        chain += state.digest()
    return bytes(chain)


def _text_of(message: RawMessage) -> bytes:
    text = f"\0{message.role}\0{message.content}"
    if message.tool_calls:
        text += "".join([f"\0{call.name}\0{call.arguments}" for call in message.tool_calls])
    return text.encode("utf-8", "replace")
