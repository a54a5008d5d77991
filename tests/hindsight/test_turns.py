"""An agent's turn is one response, made of steps; a chat's message is one by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upshot
from upshot.hindsight.embedded.timeline import Timeline, build_timeline
from upshot.privacy import Pseudonyms, clean
from upshot.records import RawConversation, RawMessage, Signal, ToolCall

_KEY = "a fixed key for these tests"


def edit(old: str, new: str, path: str = "src/dates.py") -> ToolCall:
    arguments = {"file_path": path, "old_string": old, "new_string": new}
    return ToolCall("Edit", json.dumps(arguments), "call")


def work(*messages: RawMessage, name: str = "s1", started: float | None = None) -> RawConversation:
    return RawConversation(messages, name, "u", started, metadata={"cwd": "/home/me/app"})


def timeline_of(*conversations: RawConversation) -> Timeline:
    batch = clean(conversations, Pseudonyms(_KEY), None, 1)
    return build_timeline(batch.messages, batch.conversations)


def user(text: str) -> RawMessage:
    return RawMessage("user", text)


def step(text: str, *calls: ToolCall) -> RawMessage:
    return RawMessage("assistant", text, tool_calls=calls)


def tool(text: str, name: str = "Bash") -> RawMessage:
    return RawMessage("tool", text, name=name)


RUN = (
    user("Fix the date parser."),
    step("Let me look.", ToolCall("Read", '{"file_path": "src/dates.py"}')),
    tool("def parse_date(text): ...", "Read"),
    step("I change it.", edit("", "value = parse_iso_date(text)")),
    tool("updated", "Edit"),
    step("Done: it reads ISO dates."),
)


def test_what_an_agent_does_between_two_messages_of_a_person_is_one_response() -> None:
    line = timeline_of(work(*RUN, user("thanks"), step("You are welcome.")))
    assert line.index[line.responses].tolist() == [1, 7]
    assert line.index[line.ends - 1].tolist() == [5, 7]
    assert line.index[line.answers].tolist() == [5, 7]


def test_each_message_of_a_chat_is_a_response() -> None:
    line = timeline_of(
        RawConversation((user("hi"), step("Hello."), step("How can I help?")), "c", "u")
    )
    assert line.index[line.responses].tolist() == [1, 2]


def test_a_reaction_counts_once_however_many_steps_there_are() -> None:
    (verdict, _) = upshot.judge([work(*RUN, user("that still fails"), step("Sorry."))])
    assert verdict.index == 1
    assert verdict.score < 0.4
    assert any("fails" in evidence.quote for evidence in verdict.evidence)


def test_the_horizon_counts_messages_and_not_steps() -> None:
    many = [m for _ in range(30) for m in (step("step", ToolCall("Bash", "{}")), tool("ok"))]
    (verdict,) = upshot.judge(
        [work(user("Do it."), *many, user("it worked, thank you!"))], horizon=2
    )
    assert verdict.score > 0.6
    assert verdict.confidence > 0.3


def test_of_several_messages_before_the_next_response_the_last_word_counts_most() -> None:
    def judge(*words: str) -> float:
        comments = [user(word) for word in words]
        chat = RawConversation((user("Add a flag."), step("Added."), *comments), "c", "u")
        return upshot.judge([chat])[0].score

    assert judge("This still fails for me.", "LGTM, thanks!") > judge(
        "LGTM, thanks!", "This still fails for me."
    )


def signal(kind: str, value: float, at: int, detail: str = "") -> Signal:
    return Signal(kind, value, at, detail)


def test_the_last_result_of_a_turn_counts() -> None:
    def run(*results: tuple[str, float]) -> upshot.Verdict:
        messages = [user("Fix the tests."), step("Fixing.", edit("", "value = fixed_value()"))]
        for text, value in results:
            messages.append(tool(text))
            place = len(messages) - 1
            answer = RawMessage(
                "assistant",
                "",
                tool_calls=(ToolCall("Bash", '{"command": "pytest"}'),),
                signals=(signal("test", value, place, text),),
            )
            messages.append(answer)
        return upshot.judge([work(*messages, user("next: the docs"))])[0]

    good = run(("2 failed in 1s", -0.5), ("9 passed in 1s", 1.0))
    bad = run(("9 passed in 1s", 1.0), ("2 failed in 1s", -0.5))
    assert (good.worked or 0.0) > 0.5 > (bad.worked or 1.0)
    assert {e.quote for e in bad.evidence if e.kind == "test"} == {"2 failed in 1s"}


def test_a_later_run_of_the_tests_is_about_the_edits_that_were_not_tried_yet() -> None:
    run = step("I run them.", ToolCall("Bash", '{"command": "pytest"}'))
    failing = RawMessage("tool", "=== 1 failed, 3 passed in 0.1s ===", name="Bash")
    log = work(
        user("Change the parser."),
        step("Changed.", edit("", "value = parse_iso_date(text)")),
        tool("updated", "Edit"),
        user("run the tests"),
        run,
        failing,
        step("One fails."),
        user("hm"),
    )
    first, second = upshot.judge([log])
    assert [e.quote for e in first.evidence if e.kind == "test"] == [failing.content]
    assert "test" not in {e.kind for e in second.evidence}


PATCH = "*** Begin Patch\n*** {} File: a/b.py\n{}+alpha_line = 1000\n*** End Patch"
BLOCK = "------- SEARCH\nold_line_here\n=======\nalpha_line = 1000\n+++++++ REPLACE"
NEW = "alpha_line = 1000"
TOOLS: dict[str, dict[str, object]] = {
    "Write": {"file_path": "a/b.py", "content": NEW},
    "MultiEdit": {"file_path": "a/b.py", "edits": [{"old_string": "", "new_string": NEW}]},
    "NotebookEdit": {"notebook_path": "a/b.py", "new_source": NEW},
    "replace": {"file_path": "a/b.py", "old_string": "x", "new_string": NEW},
    "write_file": {"path": "a/b.py", "content": NEW},
    "str_replace_editor": {"command": "create", "path": "a/b.py", "file_text": NEW},
    "apply_patch": {"input": PATCH.format("Update", "@@\n")},
    "shell": {"command": ["apply_patch", PATCH.format("Add", "")]},
    "replace_in_file": {"path": "a/b.py", "diff": BLOCK},
    "bash": {"command": f"cat > a/b.py <<'EOF'\n{NEW}\nEOF"},
    "edit": {"filePath": "a/b.py", "oldString": "", "newString": NEW},
}
"""A call of each agent's tool that writes the same line."""


@pytest.mark.parametrize(("name", "arguments"), TOOLS.items(), ids=TOOLS)
def test_edits_of_every_agent_are_followed(name: str, arguments: dict[str, object]) -> None:
    first = work(
        user("Set alpha."),
        step("Set.", ToolCall(name, json.dumps(arguments))),
        tool("ok"),
        started=1.0,
    )
    second = work(
        user("Take it from the environment."),
        step("Changed.", edit("alpha_line = 1000", "alpha_line = from_environment()", "/x/a/b.py")),
        tool("ok"),
        name="s2",
        started=90_000.0,
    )
    verdict = next(v for v in upshot.judge([first, second]) if v.id == "s1")
    (rewritten,) = [e for e in verdict.evidence if e.kind == "rewritten"]
    assert rewritten.quote == "alpha_line = 1000"
    assert (verdict.adopted or 1.0) < 0.5


def test_what_a_turn_rewrites_of_its_own_is_no_news_of_the_turn() -> None:
    log = work(
        user("Set alpha."),
        step("First.", edit("", "alpha_line = 1000")),
        tool("ok"),
        step("Better.", edit("alpha_line = 1000", "alpha_line = from_environment()")),
        tool("ok"),
        user("next: the docs"),
    )
    (verdict,) = upshot.judge([log])
    assert "rewritten" not in {e.kind for e in verdict.evidence}
    assert [(s.adopted or 1.0) < 0.5 for s in verdict.steps] == [True, False]


def test_commits_and_pushes_are_read_where_the_tool_says_that_they_worked() -> None:
    commit = ToolCall("Bash", json.dumps({"command": "git commit -am fix && git push"}))

    def judge(output: str) -> upshot.Verdict:
        log = work(*RUN, user("commit and push"), step("", commit), tool(output), step("Pushed."))
        return upshot.judge([log])[0]

    worked = judge("[main 1a2b3c4] fix\n 1 file changed\n   0a1b2c3..1a2b3c4  main -> main")
    failed = judge("fatal: not a git repository")
    assert {"commit", "push"} <= {e.kind for e in worked.evidence}
    assert not {"commit", "push"} & {e.kind for e in failed.evidence}
    assert (worked.adopted or 0.0) > 0.5


def test_what_was_pasted_from_the_log_is_not_said_again() -> None:
    shown = "session 12: I think we need to revert the whole work so far, it is a mess"
    log = work(
        user(shown),
        step("I made a list of the sessions.", ToolCall("Bash", "{}")),
        tool(f"  * {shown}"),
        step("Here it is."),
        user(f"cut the title at 40 characters:\n  * {shown}"),
    )
    (verdict,) = upshot.judge([log])
    assert "undo" not in {e.kind for e in verdict.evidence}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=6), st.booleans())
def test_credits_of_the_steps_sum_to_what_hindsight_taught(names: list[str], bad: bool) -> None:
    steps: list[RawMessage] = []
    for place, name in enumerate(names):
        call = edit("", f"{name}_setting_{place} = compute_{name}()", f"src/{name}.py")
        steps += [step("", call), tool("ok")]
    words = "a.py still fails" if bad else "b_setting works now, thanks"
    log = work(user("Change the settings."), *steps, user(words))
    (verdict,) = upshot.judge([log])
    assert len(verdict.steps) == len(names)
    total = sum(one.credit for one in verdict.steps)
    assert abs(total - (verdict.score - verdict.foresight)) < 1e-3
    assert {one.index for one in verdict.steps} == {1 + 2 * place for place in range(len(names))}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.sampled_from(["", "x"])),
        min_size=1,
        max_size=14,
    )
)
def test_responses_are_in_order_and_share_no_message(turns: Sequence[tuple[str, str]]) -> None:
    line = timeline_of(
        RawConversation(tuple(RawMessage(role, text) for role, text in turns), "c", "u")  # type: ignore[arg-type]
    )
    assert all(line.responses < line.ends)
    assert all(line.ends[:-1] <= line.responses[1:])
    assert all(line.responses <= line.answers)
    assert all(line.answers < line.ends)
    assistants = [place for place in range(len(line.role)) if line.role[place] == 2]
    assert all(line.row_of[place] >= 0 for place in assistants)


def test_code_that_fits_a_request_is_likelier_to_be_taken_over() -> None:
    ask = user(
        "Write a function that reads a CSV file and returns the rows whose price is above 10."
    )
    code = "```python\ndef read_rows(path):\n    with open(path) as f:\n        return [r for r in csv.DictReader(f)]\n```"  # noqa: E501
    whole = upshot.judge([RawConversation((ask, step(f"Sure:\n{code}")), "c", "u")])[0]
    hint = upshot.judge([RawConversation((ask, step("Use\n```\ncsv\n```")), "c", "u")])[0]
    prose = upshot.judge([RawConversation((ask, step("Use the csv module.")), "c", "u")])[0]
    assert (whole.adopted or 0.0) > (hint.adopted or 1.0)
    assert prose.adopted is None
    assert whole.worked is None
