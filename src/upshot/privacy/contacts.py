"""What leads to a person: IPv6 and MAC addresses, home folders, wallets, profiles on networks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from hashlib import sha256

from stdnum import bitcoin

from upshot.privacy.labels import word_list
from upshot.privacy.scan import BEGIN, LETTER, Region, TypedSpan

# ---- IPv6 and MAC

_GROUP = "[0-9A-Fa-f]{1,4}"
_IPV4_TAIL = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
IPV6 = (
    rf"\b(?:{_GROUP}:){{7}}{_GROUP}|\b(?:{_GROUP}:){{6}}{_IPV4_TAIL}"
    rf"|\b(?:{_GROUP}:){{1,7}}:(?:(?:{_GROUP}:){{0,6}}(?:{_IPV4_TAIL}|{_GROUP}))?"
    rf"|::(?:ffff:|FFFF:)?{_IPV4_TAIL}"
)


def is_ipv6(text: str) -> bool:
    """A valid address of no private or special network; `a::b` in program code is none.

    >>> is_ipv6("2001:db8::8a2e:370:7334"), is_ipv6("::1"), is_ipv6("std::a")
    (True, False, False)
    """
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    if address.ipv4_mapped is not None:
        return not address.ipv4_mapped.is_private
    first = int(address) >> 112
    special = first & 0xFE00 == 0xFC00 or first & 0xFFC0 == 0xFE80 or address.is_multicast
    if special or address.is_loopback or address.is_unspecified:
        return False
    return 0x2000 <= first < 0x4000 or ("::" not in text and first >= 0x1000)


def read_ipv6(region: Region) -> Iterator[TypedSpan]:
    """An address that no letter, digit or colon continues."""
    text = region.text.rstrip(":") if not region.text.endswith("::") else region.text
    if re.match(r"[0-9A-Za-z]|:[0-9A-Fa-f]", region.after(2)) or re.search(
        r"[0-9A-Za-z:.]$", region.before(1)
    ):
        return
    if text.endswith("::") and re.match("/[0-9]", region.after(2)):
        return
    if is_ipv6(text):
        yield region.span("IP", text, 0, len(text))


MAC = r"[0-9A-Fa-f]{2}(?:[:\-][0-9A-Fa-f]{2}){5,19}|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}"
_MAC_LENGTHS = (12, 16)
"""Hexadecimal digits of an EUI-48 and an EUI-64; fingerprints of keys are longer."""


def read_mac(region: Region) -> Iterator[TypedSpan]:
    """A hardware address: six or eight pairs, not all alike, no part of something longer."""
    text = region.text
    digits = re.sub(r"[:.\-]", "", text).lower()
    if (
        len(digits) not in _MAC_LENGTHS
        or len(set(digits)) <= 2
        or len(set(re.findall("[:\\-.]", text))) > 1
    ):
        return
    if re.match(r"[0-9A-Za-z]|[:\-.][0-9A-Fa-f]{2}", region.after(3)) or re.search(
        r"[0-9A-Za-z]$|[0-9A-Fa-f][:\-.]$", region.before(2)
    ):
        return
    if (
        digits.isdigit()
        and "-" in text
        and len(digits) == 12
        and not re.search("(?i)mac|ether|hw", region.before(24))
    ):
        return
    yield region.span("MAC", text, 0, len(text))


# ---- Home folders

HOME_PATH = (
    r"(?:/(?:Users|home|var/home|export/home|usr/home|mnt/[a-z]/Users|[a-z]/Users)/"
    r"|[A-Za-z]:(?:\\{1,4}|/{1,2})(?:Users|Documents and Settings|Benutzer"
    r"|Utilisateurs)(?:\\{1,4}|/{1,2})"
    r"|\\{1,4}Users\\{1,4}|%2F(?i:Users|home)%2F|-(?:Users|home)-)"
    rf"[{LETTER}0-9][{LETTER}0-9._@+\-]*"
)
_SHARED = word_list("shared_homes")
"""Folders in the place of a person's that belong to nobody: accounts of machines, pages."""
_WITH_SPACE = re.compile(r" [^\W\d_][^\W_]{1,20}(?=[\\/])")


def read_home_path(region: Region) -> Iterator[TypedSpan]:
    """A home folder with the name of its owner: `/home/jane`, not `/home/runner`."""
    text = region.text
    end = len(text)
    lead = re.match(r"-(?:Users|home)-|(?:.*[/\\]|(?i:%2F(?:users|home)%2F))", text)
    name = text[lead.end() :] if lead else text
    before = region.before(64)
    if text.startswith("-"):
        if re.search(r"[A-Za-z0-9]$", before):
            return
        name = name.partition("-")[0]
        end = (lead.end() if lead else 0) + len(name)
    elif text.startswith("/") and re.search(r"[A-Za-z0-9]$", before):
        token = re.split(r"[\s\"'=(]", before)[-1]
        if "://" in token or re.match(r"[\w\-]+\.[\w\-.]+", token):
            return
    name = name.rstrip(".@+-")
    end = (
        len(text) - (len(text[(lead.end() if lead else 0) :]) - len(name))
        if not text.startswith("-")
        else end
    )
    if (
        name.lower() in _SHARED
        or not any(map(str.isalpha, name))
        or re.search(r"\.(?:html?|php|md|js|tsx?|py|json|png|svg)$", name)
    ):
        return
    yield region.span("HOME_PATH", text, 0, end)
    if "\\" in text and (more := _WITH_SPACE.match(region.after(32))):
        yield region.span_after("HOME_PATH", region.after(32), 0, more.end())


# ---- Wallets and profiles

WALLET = (
    BEGIN + r"(?:[13LMDXtrTA][1-9A-HJ-NP-Za-km-z]{25,34}|(?i:bc1|tb1|ltc1"
    r"|bcrt1)[02-9ac-hj-np-zA-HJ-NP-Z]{20,87}|0x[0-9a-fA-F]{40}"
    r"|addr1[02-9ac-hj-np-z]{50,110}"
    r"|(?:cosmos|osmo|terra|inj|sei|celestia)1[02-9ac-hj-np-z]{38,58}"
    r"|[48][0-9AB][1-9A-HJ-NP-Za-km-z]{93}|[KL5][1-9A-HJ-NP-Za-km-z]{50,51}|(?:EQ"
    r"|UQ)[A-Za-z0-9_\-]{46}|[GS][A-Z2-7]{55})\b"
)
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RIPPLE = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"


def _has_base58_check(text: str, alphabet: str) -> bool:
    """Whether the last four bytes are the double SHA-256 of the others."""
    value = 0
    for character in text:
        value = value * 58 + alphabet.index(character)
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    raw = b"\0" * zeros + value.to_bytes((value.bit_length() + 7) // 8, "big")
    return len(raw) > 4 and sha256(sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def is_wallet(text: str) -> bool:
    """Whether a candidate is an address of a block chain or the key to one.

    >>> is_wallet("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2")
    True
    >>> is_wallet("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3")
    False
    """
    if text.startswith("0x"):
        return len(set(text[2:].lower())) > 6
    if re.match("(?i:bc1|tb1)", text):
        return bitcoin.is_valid(text) or len(text) in (42, 62)
    if re.match(r"(?i:ltc1|bcrt1)|addr1|(?:cosmos|osmo|terra|inj|sei|celestia)1|EQ|UQ", text):
        return any(map(str.isdigit, text[4:]))
    if len(text) == 95 or len(text) == 56:
        return len(set(text)) > 12
    if text.startswith("r"):
        return _has_base58_check(text, _RIPPLE)
    return _has_base58_check(text, _ALPHABET)


PROFILE = (
    r"(?i:\b(?:linkedin\.com/in/|instagram\.com/|facebook\.com/|fb\.com/|t\.me/|tiktok\.com/@"
    r"|threads\.net/@|twitter\.com/|snapchat\.com/add/|venmo\.com/(?:u/)?|paypal\.me/"
    r"|cash\.app/\$|keybase\.io/|reddit\.com/u(?:ser)?/"
    r"|steamcommunity\.com/id/|wa\.me/|discordapp?\.com/users/|vk\.com/|xing\.com/profile/"
    r"|bsky\.app/profile/))"
    rf"[{LETTER}0-9_.\-%]+"
)
_NO_PROFILE = word_list("no_profiles")


def read_profile(region: Region) -> Iterator[TypedSpan]:
    """The name in the address of a profile on a network."""
    text = region.text.rstrip(".-")
    start = max(text.rfind("/"), text.rfind("$"), text.rfind("@")) + 1
    name = text[start:]
    if name.lower() in _NO_PROFILE or name.endswith((".php", ".js", ".html")) or len(name) < 2:
        return
    if region.after(8).startswith(("/status", "/p/", "/posts")):
        return
    kind = "PHONE" if name.isdigit() and "wa.me" in text.lower() else "HANDLE"
    yield region.span(kind, text, start, len(text))
