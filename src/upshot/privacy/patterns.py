"""The types of personal data, and the scans that look for them.

RE2 finds candidates, loosely; checks in Python decide. A new type whose values can be told by
their form is one line in `TYPES` (docs/extending.md); a new format of keys or a new word for
what follows it is one line in a file of `data/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from upshot.privacy import contacts, emails, ibans, keys, names, numbers, places
from upshot.privacy.assigned_secrets import ASSIGNED_SECRET
from upshot.privacy.labelled import LABELLED_HANDLE_RULE, LABELLED_NAME_RULE, LABELLED_NUMBER_RULE
from upshot.privacy.national_ids import LETTER_ID, is_letter_id
from upshot.privacy.scan import Family, Region, Rule, TypedSpan


def _accept(_: str) -> bool:
    return True


class RedactionType(NamedTuple):
    """A type of personal data whose values show by their form."""

    name: str
    """In capitals; the placeholder of a value is `<NAME_4821>`."""
    pattern: str
    """Candidates, in RE2's syntax."""
    is_valid: Callable[[str], bool] = _accept
    """The check that a candidate must pass."""

    @property
    def rule(self) -> Rule:
        """A candidate that passes the check is a value as a whole."""

        def read(region: Region) -> Iterator[TypedSpan]:
            region = region.trim_escape()
            if self.is_valid(region.text):
                yield self.name, region.start, region.end

        return Rule(self.pattern, read, skips_rejected=True)


TYPES: tuple[RedactionType, ...] = (
    RedactionType("KEY", keys.TELLING_KEY, keys.is_telling_key),
    RedactionType("KEY", keys.LOOSE_KEY, keys.is_loose_key),
    RedactionType("SECRET", keys.CRYPT_HASH),
    RedactionType("WALLET", contacts.WALLET, contacts.is_wallet),
    RedactionType("NATIONAL_ID", LETTER_ID, is_letter_id),
)
"""Types of which a candidate is a value as a whole, in order of precedence."""

_PLACES = (
    Rule(contacts.MAC, contacts.read_mac, skips_rejected=True),
    Rule(contacts.IPV6, contacts.read_ipv6, skips_rejected=True),
    *keys.KEY_RULES,
    keys.COMMAND_RULE,
    keys.PIPED_RULE,
    Rule(contacts.PROFILE, contacts.read_profile, skips_rejected=True),
    Rule(contacts.HOME_PATH, contacts.read_home_path, skips_rejected=True),
    Rule(emails.EMAIL, emails.read_email, skips_rejected=True),
)

_TELLING, *_OTHERS = (kind.rule for kind in TYPES)
_BY_FORM = (
    Family(_TELLING),
    Family(*_OTHERS),
    Family(*_PLACES),
    Family(Rule(places.STREET, places.read_street)),
    Family(Rule(ibans.IBAN, ibans.read_iban), numbers.NUMBER_RULE),
    Family(keys.TOKEN_RULE),
    Family(ASSIGNED_SECRET),
    Family(LABELLED_NUMBER_RULE),
)
WITHOUT_NAMES = (*_BY_FORM, Family(LABELLED_HANDLE_RULE))
"""Scans for all but names of people: automata of many states have one of their own."""
NAMES = (Family(LABELLED_NAME_RULE, names.WEAK_NAME_RULE), Family(*names.NAME_RULES))
"""Scans for names, and for the handles that words for them announce."""
WITH_NAMES = (*_BY_FORM, *NAMES)
"""Scans for everything."""
REWRITTEN = (*WITHOUT_NAMES, Family(Rule(emails.SPELLED_EMAIL, emails.read_spelled_email)))
"""Scans of text that was made readable (`normalised.py`)."""
