"""A later session joins the one it continues."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.records import RawConversation
from upshot.threads import Session, link_sessions

DAY = 86_400.0


def test_the_same_file_and_error_two_days_later_join() -> None:
    links = link_sessions(
        [
            Session("a", 0, "load_orders.py dies with KeyError in parse_row"),
            Session("b", DAY, "a recipe for lentil soup with coriander"),
            Session("c", 2 * DAY, "load_orders.py again, parse_row still has the KeyError"),
        ]
    )
    assert [link.parent for link in links] == [-1, -1, 0]
    assert any("load_orders.py" in reason for reason in links[2].reasons)


def test_everyday_words_join_nothing() -> None:
    links = link_sessions(
        [
            Session("a", 0, "please help me write an email"),
            Session("b", DAY, "please help me write a test"),
        ]
    )
    assert [link.parent for link in links] == [-1, -1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=8))
def test_links_point_back_and_scores_are_probabilities(texts: list[str]) -> None:
    for number, link in enumerate(
        link_sessions([Session(str(i), i * DAY, text) for i, text in enumerate(texts)])
    ):
        assert -1 <= link.parent < number or (link.parent == -1 and number == 0)
        assert 0.0 <= link.score <= 1.0


def test_work_grows_with_the_sessions_and_rare_words_reach_beyond_the_window() -> None:
    sessions = [Session(str(i), i * DAY, f"subject{i} matter{i}") for i in range(300)]
    sessions.append(Session("late", 300 * DAY, "back to subject3 matter3, it worked"))
    links = link_sessions(sessions, window=8)
    assert links[-1].parent == 3


def test_threads_of_different_users_are_never_joined(chat: Callable[..., RawConversation]) -> None:
    text = "u: load_orders.py dies with KeyError in parse_row"
    rows = upshot.link([chat(text, id="c1", user="ana"), chat(text, id="c2", user="ben", day=1)])
    assert len({row.thread for row in rows}) == 2
