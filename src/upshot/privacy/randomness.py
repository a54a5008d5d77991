"""Whether characters look drawn at random, as those of keys are, or spelled, as those of names are.

Two measures tell them apart. Of random characters 62 % differ in class (lower case, upper case,
digit) from their neighbour if there are all three classes, 47 % in hexadecimal and 40 % with one
case and digits; in names of code few do. And of random pairs of letters 12 % are among the 80
most common pairs of English, in words 60 %.
"""

from __future__ import annotations

import re

from upshot.privacy.labels import word_list

_CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
_CHUNK = re.compile(r"[A-Za-z0-9]{10,}")
_LONG_CHUNK = re.compile(r"[A-Za-z0-9]{16,}")
_REPEAT = re.compile(r"(.)\1{5}")
_DIGIT = re.compile("[0-9]")
_LETTERS = re.compile("[a-z]{2,}")
_COMMON_PAIRS = word_list("common_pairs")

MIN_RATE_AFTER_PREFIX = 0.15
"""Changes per neighbours where a vendor's prefix stands before: few words reach it."""
MIN_RATE_AFTER_LABEL = 0.2
"""The same where a word such as `token` stands before."""
_MIN_RATE_OF_THREE = 0.36
"""The same of all three classes, where nothing but the characters tells."""
_MIN_RATE_OF_TWO = 0.22
"""The same of one case and digits."""
_MAX_COMMON_PAIRS = 0.33
"""Share of common pairs: between random characters and words."""
_MIN_DISTINCT = 6
_MIN_DISTINCT_ALONE = 12
_MIN_LENGTH_OF_TWO = 24
"""Characters of a key of one case and digits that nothing but its form tells."""


def compute_change_rate(text: str) -> float:
    """Share of neighbours of different classes.

    >>> compute_change_rate("aB3d"), compute_change_rate("word")
    (1.0, 0.0)
    """
    return len(_CHANGE.findall(text)) / (len(text) - 1) if len(text) > 1 else 0.0


def is_made_of_words(text: str) -> bool:
    """Whether the letters read as words of English or of code.

    >>> is_made_of_words("OAuth2PasswordRequestForm"), is_made_of_words("hT7vQ2xLw9RbK4nZsY8d")
    (True, False)
    """
    pairs = common = 0
    for run in _LETTERS.findall(text.lower()):
        pairs += len(run) - 1
        common += sum(run[i : i + 2] in _COMMON_PAIRS for i in range(len(run) - 1))
    return common > _MAX_COMMON_PAIRS * pairs


def is_random(
    text: str, min_rate: float = MIN_RATE_AFTER_LABEL, min_distinct: int = _MIN_DISTINCT
) -> bool:
    """Whether a part of ten or more letters and digits looks drawn at random.

    >>> is_random("f3Kq9ZtW1mXb"), is_random("authentication2"), is_random("x" * 20)
    (True, False, False)
    """
    return any(
        len(set(chunk)) >= min_distinct
        and compute_change_rate(chunk)
        >= (min_rate if _DIGIT.search(chunk) else max(min_rate, _MIN_RATE_OF_THREE))
        and not _REPEAT.search(chunk)
        for chunk in _CHUNK.findall(text)
    )


def is_random_alone(text: str) -> bool:
    """Whether a token without any context is a key: well mixed, and no words.

    >>> is_random_alone("hT7vQ2xLw9RbK4nZsY8dFe3G"), is_random_alone("test_Base64Encoder_Utf8_v2")
    (True, False)
    """
    return len(set(text)) >= _MIN_DISTINCT_ALONE and any(
        _is_mixed(chunk) and not _REPEAT.search(chunk) and not is_made_of_words(chunk)
        for chunk in _LONG_CHUNK.findall(text)
    )


def _is_mixed(chunk: str) -> bool:
    digits = sum(map(str.isdigit, chunk))
    upper = sum(map(str.isupper, chunk))
    lower = len(chunk) - digits - upper
    rate = compute_change_rate(chunk)
    if min(upper, lower) >= 3:
        return digits >= 2 and rate >= _MIN_RATE_OF_THREE
    return (
        len(chunk) >= _MIN_LENGTH_OF_TWO
        and min(upper, lower) == 0
        and digits >= 4
        and len(chunk) - digits >= 8
        and rate >= _MIN_RATE_OF_TWO
    )
