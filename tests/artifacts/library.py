"""A small invented code, a case and a ruling, for the tests of artifacts."""

from __future__ import annotations

from typing import Any

from upshot.artifacts.citations import index_names
from upshot.artifacts.desk import Desk
from upshot.artifacts.intake import make_artifact
from upshot.artifacts.library import Library, make_source
from upshot.artifacts.reconstruct import reconstruct_artifact
from upshot.artifacts.records import Artifact, Trail

SECTIONS: list[dict[str, Any]] = [
    {
        "id": "harbour-12-old",
        "title": "§ 12. Mooring levy",
        "text": "(a) There is imposed on every operator of a marina a levy of 6 percent of the"
        " gross berth receipts of the calendar year.\n\n(b) No levy is imposed on a floating dock.",
        "valid_to": "2019-12-31",
    },
    {
        "id": "harbour-12",
        "title": "§ 12. Mooring levy",
        "text": "(a) There is imposed on every operator of a marina a levy of 4 percent of the"
        " gross berth receipts of the calendar year.\n\n(b) The levy is paid by the operator before"
        " the end of March of the following year, to the harbour master.",
        "valid_from": "2020-01-01",
        "supersedes": "harbour-12-old",
    },
    {
        "id": "harbour-14",
        "title": "§ 14. Small marinas",
        "text": "(a) Section 12 does not apply to a small marina.\n\n(b) For purposes of this"
        " section, the term “small marina” means a marina with fewer than 40 berths. (1) A berth"
        " that is not let for more than 90 days of the year is not counted.",
        "valid_from": "2015-06-01",
    },
    {
        "id": "harbour-20",
        "title": "§ 20. Lantern duty",
        "text": "Every owner of a lantern ship shall pay a duty of $300 for each lantern that is"
        " lit on the water after sunset.",
        "valid_from": "2015-06-01",
    },
    {
        "id": "gull-v-harbour-master",
        "title": "Gull v. Harbour Master, 31 H.R. 204 (2017)",
        "text": "The harbour master counted berths that lay dry all summer. We hold that a berth is"
        " a place at which a vessel can lie afloat; a dry berth is none.",
        "date": "2017-05-04",
    },
    {
        "id": "ruling-2022-4",
        "title": "Rev. Rul. 2022-4",
        "text": "Receipts from showers and laundry are not gross berth receipts.",
        "date": "2022-09-01",
    },
]
MEMO = """# Levy on the Elm Street marina

Date: 2021-03-31

## Facts

Ana operates a marina on Elm Street. It has 52 berths and took in gross berth receipts of $200,000
in the calendar year 2020. Eight of its places are dry all summer.

## Issues

1. Whether the marina is a small marina.
2. How much levy is due for 2020?

## Analysis

The levy is “4 percent of the gross berth receipts of the calendar year”. § 12(a). Section 12 does
not apply to a small marina, that is, a marina with fewer than 40 berths. § 14(a), (b). A berth is
“a place at which a vessel can lie afloat”, so dry places are not counted. Gull v. Harbour Master,
31 H.R. 204 (2017). Of the 52 berths 44 count. The marina therefore is not a small marina.

## Conclusion

The marina is liable to the mooring levy. The levy due for 2020 is $8,000.
"""


def make_library(*extra: dict[str, Any]) -> Library:
    """The library of the sections above."""
    return index_names(Library(make_source(record) for record in (*SECTIONS, *extra)))


def make_desk(*extra: dict[str, Any], backend: str = "") -> Desk:
    """The same, searchable."""
    return Desk(make_library(*extra), backend)


def artifact_of(text: str, date: str = "2021-03-31", kind: str = "", id: str = "memo") -> Artifact:
    """An artifact of text."""
    record = {"id": id, "text": text, "date": date}
    return make_artifact(record, kind)


def trail_of(text: str, date: str = "2021-03-31") -> Trail:
    """The trail of a text."""
    return reconstruct_artifact(artifact_of(text, date), make_desk())
