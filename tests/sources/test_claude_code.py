"""Claude Code's logs: who spoke, what was taken back, what a log repeats."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sources.agent_logs import (
    FILES,
    Session,
    call_names,
    count_skips,
    kinds,
    make_call,
    outline,
    read_all,
    read_one,
    words,
    write_lines,
)

from upshot.records import BadRecord, RawConversation
from upshot.sources.reading import read


def test_a_session_is_read_with_its_answers_put_together() -> None:
    session = read_one(FILES / "claude_code.jsonl")
    assert outline(session) == [
        ("u", "the basket total is wrong, please look"),
        ("a", "I run the tests."),
        ("t", "Exit code 1\n1 failed, 7 passed in 0.31s"),
        ("a", "Rounding happened twice; fixed."),
        ("u", "right, thanks"),
    ]
    assert call_names(session) == ["Bash"]
    assert (session.id, session.user, session.model) == ("5e55-01", "", "claude-m")
    assert session.metadata == {"cwd": "/srv/shop", "gitBranch": "basket", "version": "2.1.30"}
    assert session.messages[2].status == 1


def test_what_holds_no_message_is_counted_by_kind() -> None:
    assert count_skips(FILES / "claude_code.jsonl") == {"claude-code: file-history-snapshot": 1}


def test_of_growing_copies_of_an_answer_the_longest_counts(tmp_path: Path) -> None:
    log = Session().user("1", "hi").answer("2", "Go", response="m")
    log.answer("3", "Good mor", response="m", parent="1")
    log.answer("4", "Good morning.", response="m", parent="1").user("5", "bye")
    assert outline(read_one(log.write(tmp_path))) == [
        ("u", "hi"),
        ("a", "Good morning."),
        ("u", "bye"),
    ]


def test_a_line_that_was_written_twice_counts_once(tmp_path: Path) -> None:
    log = Session().user("1", "hi").answer("2", "Hello.").user("3", "bye")
    log.lines.append(log.lines[2])
    assert [text for _, text in outline(read_one(log.write(tmp_path)))] == ["hi", "Hello.", "bye"]


def test_parallel_calls_and_their_results_are_no_branches(tmp_path: Path) -> None:
    log = Session().user("1", "look")
    log.answer("2", make_call("Read", "c1", path="a"), response="m")
    log.answer("3", make_call("Read", "c2", path="b"), response="m")
    log.result("4", "c1", "AAA", parent="2").result("5", "c2", "BBB", parent="3")
    log.answer("6", "Both read.")
    (session,) = read_all(log.write(tmp_path))
    assert [role for role, _ in outline(session)] == ["u", "a", "t", "t", "a"]
    assert len(session.messages[1].tool_calls) == 2


@pytest.mark.parametrize("between", [False, True])
def test_a_rewind_leaves_a_branch_that_was_taken_back(tmp_path: Path, between: bool) -> None:
    log = Session().user("1", "parse it").answer("2", "By regex.")
    if between:  # a hook's line stands between the answer and the next turn
        log.add("h", "system", None, subtype="stop_hook_summary")
    fork = log.last
    log.user("3", "use a grammar").answer("4", "By grammar.")
    log.user("5", "by hand", parent=fork).answer("6", "By hand.").user("7", "perfect")
    main, branch = read_all(log.write(tmp_path))
    assert [text for _, text in outline(main)] == [
        "parse it",
        "By regex.",
        "by hand",
        "By hand.",
        "perfect",
    ]
    assert (branch.branch_of, branch.branch_at, main.fork) == (main.id, 2, 2)
    assert "undo" in kinds(branch.messages[3])
    assert not kinds(main.messages[3])


def test_rewinding_twice_repeats_no_message(tmp_path: Path) -> None:
    log = Session().user("1", "a").answer("2", "A.").user("3", "b").answer("4", "B.")
    log.user("5", "c").answer("6", "C.").user("7", "d", parent="4").answer("8", "D.")
    log.user("9", "e", parent="2").answer("10", "E.")
    own = [m.content for c in read_all(log.write(tmp_path)) for m in c.messages[c.branch_at :]]
    assert sorted(own) == sorted(["a", "A.", "b", "B.", "c", "C.", "d", "D.", "e", "E."])


def test_a_resumed_copy_shares_what_it_repeats(tmp_path: Path) -> None:
    log = Session("s-1").user("1", "make it").answer("2", "Made.")
    log.write(tmp_path)
    copy = Session("s-2").user("1", "make it").answer("2", "Made.").user("3", "good")
    copy.lines[0]["timestamp"] = log.lines[0]["timestamp"]
    copy.write(tmp_path)
    first, second = read_all(tmp_path / "s-1.jsonl", tmp_path / "s-2.jsonl")
    assert (second.branch_of, second.branch_at) == (first.id, 2)
    (whole,) = read_all(tmp_path / "s-2.jsonl", tmp_path / "s-1.jsonl")
    assert whole.id == "s-2"


def test_sessions_in_one_file_come_apart_even_where_they_are_mixed(tmp_path: Path) -> None:
    one, two = Session("s-1").user("1", "a"), Session("s-2").user("2", "b")
    one.answer("3", "A.")
    lines = [one.lines[0], two.lines[0], one.lines[1]]
    first, second = read_all(write_lines(tmp_path / "x.jsonl", *lines))
    assert [len(first.messages), len(second.messages)] == [2, 1]


def test_a_sub_agent_is_a_conversation_of_its_own(tmp_path: Path) -> None:
    log = Session().user("1", "fix it")
    log.answer("2", "I ask.", make_call("Task", "c1", prompt="Find the login"))
    log.user("x", "Find the login", parent=None, isSidechain=True)
    log.answer("y", "In auth.py.", isSidechain=True)
    log.result("3", "c1", "In auth.py.", parent="2").answer("4", "Fixed.")
    main, agent = read_all(log.write(tmp_path))
    assert [text for _, text in outline(main)] == ["fix it", "I ask.", "In auth.py.", "Fixed."]
    assert (agent.parent, agent.parent_at) == (main.id, 1)
    assert outline(agent) == [("m", "Find the login"), ("a", "In auth.py.")]


def test_a_sub_agents_file_does_not_take_its_parents_place(tmp_path: Path) -> None:
    main = Session().user("1", "fix it").answer("2", "Fixed.").write(tmp_path)
    log = Session().user("x", "Find it", isSidechain=True, agentId="ab")
    child = log.answer("y", "There.", isSidechain=True, agentId="ab").write(tmp_path, "agent.jsonl")
    parent, agent = read_all(main, child)
    assert (agent.parent, words(agent)) == (parent.id, [])
    assert agent.id != parent.id


@pytest.mark.parametrize(
    "text",
    [
        "<system-reminder>\nIt is Monday.\n</system-reminder>",
        "<local-command-stdout>ok</local-command-stdout>",
        "<task-notification><task-id>7</task-id></task-notification>",
        "Caveat: The messages below were generated by the user while running local commands.",
        "This session is being continued from a previous conversation that ran out of context.",
        "Implement the following plan:\n\n# Plan\n\nDo it.",
        "[Request interrupted by user]",
        "Operation stopped by hook: commit first",
    ],
)
def test_what_the_harness_wrote_is_no_persons(tmp_path: Path, text: str) -> None:
    log = Session().user("1", "do it").answer("2", "Done.").user("3", text).answer("4", "Yes.")
    session = read_one(log.write(tmp_path))
    assert words(session) == ["do it"]
    assert session.messages[2].author == "machine"


@pytest.mark.parametrize("flag", ["isMeta", "isCompactSummary"])
def test_a_flag_says_that_a_machine_wrote_a_turn(tmp_path: Path, flag: str) -> None:
    log = Session().user("1", "do it").answer("2", "Done.").user("3", "Go on.", **{flag: True})
    assert words(read_one(log.write(tmp_path))) == ["do it"]


@pytest.mark.parametrize(
    ("content", "typed"),
    [
        ([{"type": "text", "text": "<ide_opened_file>a.py</ide_opened_file>"}, "why?"], "why?"),
        (
            "<command-message>review</command-message>\n<command-name>/review</command-name>\n"
            "<command-args>PR 12, it crashes</command-args>",
            "/review\nPR 12, it crashes",
        ),
        ("<bash-input>pytest -q</bash-input>", "pytest -q"),
        ("[Request interrupted by user]\nuse tabs", "use tabs"),
    ],
)
def test_what_was_typed_beside_it_is_the_persons(
    tmp_path: Path, content: object, typed: str
) -> None:
    log = Session().user("1", "do it").answer("2", "Done.").user("3", content)
    assert words(read_one(log.write(tmp_path)))[1:] == [typed]


def test_the_output_of_a_persons_command_is_a_tools(tmp_path: Path) -> None:
    log = Session().user("1", "do it").answer("2", "Done.").user("3", "<bash-input>x</bash-input>")
    log.user("4", "<bash-stdout>1 failed in 0.1s</bash-stdout><bash-stderr></bash-stderr>")
    assert outline(read_one(log.write(tmp_path)))[-1] == ("t", "1 failed in 0.1s")


def test_a_denied_call_is_a_refusal_with_the_persons_words(tmp_path: Path) -> None:
    text = "The user doesn't want to proceed with this tool use. The user said:\nkeep build"
    log = Session().user("1", "clean up").answer("2", make_call("Bash", "c", command="rm -r build"))
    session = read_one(log.result("3", "c", text, is_error=True).write(tmp_path))
    assert words(session) == ["clean up", "keep build"]
    assert kinds(session.messages[1]) == ["reject"]
    assert session.messages[2].status is None


def test_an_interrupt_is_on_the_response_that_was_stopped(tmp_path: Path) -> None:
    log = (
        Session()
        .user("1", "do it")
        .answer("2", "I was go")
        .user("3", [{"type": "text", "text": "[Request interrupted by user for tool use]"}])
    )
    session = read_one(log.write(tmp_path))
    assert [(s.kind, s.at) for s in session.messages[1].signals] == [("interrupt", 2)]


def test_what_was_typed_while_it_worked_is_kept_once(tmp_path: Path) -> None:
    log = Session().user("1", "do it").answer("2", make_call("Bash", "c", command="x"))
    log.lines.append(
        {
            "type": "queue-operation",
            "operation": "enqueue",
            "sessionId": "s-1",
            "timestamp": "2026-03-02T09:01:30Z",
            "content": "and test it",
        }
    )
    log.lines.append({"type": "queue-operation", "operation": "remove", "sessionId": "s-1"})
    log.result("3", "c", "ok").answer("4", "Both done.")
    assert outline(read_one(log.write(tmp_path)))[2:] == [
        ("u", "and test it"),
        ("t", "ok"),
        ("a", "Both done."),
    ]
    log.user("5", "and test it")
    assert words(read_one(log.write(tmp_path))) == ["do it", "and test it"]


def test_a_queued_message_may_stand_in_an_attachment_only(tmp_path: Path) -> None:
    log = Session().user("1", "do it").answer("2", "Done.")
    log.add("3", "attachment", None, attachment={"type": "queued_command", "prompt": "and that"})
    assert words(read_one(log.write(tmp_path))) == ["do it", "and that"]


def test_an_error_of_the_interface_is_no_answer(tmp_path: Path) -> None:
    log = Session().user("1", "do it").answer("2", "API Error: 529", isApiErrorMessage=True)
    assert outline(read_one(log.write(tmp_path)))[1] == ("s", "API Error: 529")


def test_output_of_a_run_is_read_with_its_sub_agents(tmp_path: Path) -> None:
    common = {"session_id": "r-1"}
    call = make_call("Task", "c1", prompt="look")
    path = write_lines(
        tmp_path / "run.jsonl",
        {"type": "system", "subtype": "init", "cwd": "/w", "uuid": "0", **common},
        {
            "type": "assistant",
            "uuid": "1",
            "parent_tool_use_id": None,
            **common,
            "message": {"id": "m1", "role": "assistant", "content": [call]},
        },
        {
            "type": "assistant",
            "uuid": "2",
            "parent_tool_use_id": "c1",
            **common,
            "message": {
                "id": "m2",
                "role": "assistant",
                "content": [{"type": "text", "text": "x"}],
            },
        },
        {
            "type": "assistant",
            "uuid": "3",
            "parent_tool_use_id": None,
            **common,
            "message": {
                "id": "m3",
                "role": "assistant",
                "content": [{"type": "text", "text": "Ok"}],
            },
        },
        {"type": "result", "subtype": "success", "result": "Ok", "uuid": "4", **common},
    )
    main, agent = read_all(path)
    assert [m.content for m in main.messages] == ["", "Ok"]
    assert (main.id, agent.parent, agent.parent_at) == ("r-1", "r-1", 0)


def test_a_result_alone_is_the_answer(tmp_path: Path) -> None:
    record = {"type": "result", "subtype": "success", "result": "Ok.", "session_id": "r-2"}
    assert outline(read_one(write_lines(tmp_path / "r.json", record))) == [("a", "Ok.")]


def test_an_export_from_the_web_is_one_session(tmp_path: Path) -> None:
    lines = [
        {k: v for k, v in line.items() if k in ("type", "timestamp", "message")}
        for line in Session().user("1", "hi").answer("2", "Hello.").lines
    ]
    path = write_lines(tmp_path / "web.json", {"loglines": lines})
    assert outline(read_one(path)) == [("u", "hi"), ("a", "Hello.")]


@pytest.mark.parametrize("broken", [5, "x", [1], {"type": "user", "uuid": "9", "message": "x"}])
def test_one_broken_line_is_one_bad_record(tmp_path: Path, broken: object) -> None:
    log = Session().user("1", "hi").answer("2", "Hello.")
    path = write_lines(tmp_path / "s.jsonl", log.lines[0], broken, log.lines[1])
    items = list(read(path))
    assert sum(isinstance(item, BadRecord) for item in items) == 1
    (session,) = (item for item in items if isinstance(item, RawConversation))
    assert len(session.messages) == 2


def test_lines_in_a_circle_are_told(tmp_path: Path) -> None:
    log = Session().user("1", "a", parent="2").user("2", "b", parent="1")
    items = list(read(log.write(tmp_path)))
    assert items  # read as a line, or refused: never an endless loop


def test_files_that_describe_sessions_are_passed_over(tmp_path: Path) -> None:
    Session().user("1", "hi").answer("2", "Hello.").write(tmp_path)
    write_lines(tmp_path / "sessions-index.json", {"version": 1, "entries": [{"sessionId": "s"}]})
    write_lines(tmp_path / "agent-1.meta.json", {"agentType": "general-purpose"})
    assert len(read_all(tmp_path)) == 1


def test_a_compaction_goes_on_with_the_same_session(tmp_path: Path) -> None:
    log = Session().user("1", "do it").answer("2", "Done.")
    log.add("3", "system", None, parent=None, subtype="compact_boundary", logicalParentUuid="2")
    log.user("4", "Summary.", isCompactSummary=True).user("5", "next")
    session = read_one(log.write(tmp_path))
    assert words(session) == ["do it", "next"]
    assert len(session.messages) == 4


def test_a_rewind_to_the_very_beginning_is_a_branch(tmp_path: Path) -> None:
    log = Session().user("1", "one way").answer("2", "A.").user("3", "other", parent=None)
    main, branch = read_all(log.answer("4", "B.").write(tmp_path))
    assert [text for _, text in outline(main)] == ["other", "B."]
    assert (branch.branch_of, branch.branch_at) == (main.id, 0)


def test_answers_that_were_withdrawn_are_left_out_and_counted(tmp_path: Path) -> None:
    log = Session().user("1", "hi").answer("2", "Hel").answer("3", "Hello.", supersedesUuids=["2"])
    path = log.write(tmp_path)
    assert [text for _, text in outline(read_one(path))] == ["hi", "Hello."]
    assert count_skips(path)["claude-code: answers that were withdrawn"] == 1


def test_a_sub_agent_may_stand_in_reports_of_its_progress(tmp_path: Path) -> None:
    log = Session().user("1", "fix it").answer("2", make_call("Task", "c1", prompt="Find it"))
    agent = Session().user("x", "Find it", parent=None).answer("y", "There.")
    for number, inner in enumerate(agent.lines):
        message = {key: inner[key] for key in ("type", "uuid", "timestamp", "message")}
        data = {"type": "agent_progress", "agentId": "ab", "message": message}
        log.add(f"p{number}", "progress", None, data=data, parentToolUseID="c1")
    log.result("3", "c1", "There.", parent="2").answer("4", "Fixed.")
    main, child = read_all(log.write(tmp_path))
    assert [text for _, text in outline(main)] == ["fix it", "", "There.", "Fixed."]
    assert (child.parent, child.parent_at) == (main.id, 1)
    assert outline(child) == [("m", "Find it"), ("a", "There.")]


def test_many_lines_may_hang_from_one(tmp_path: Path) -> None:
    log = Session().user("1", "do it")
    for number in range(300):
        log.add(f"p{number}", "progress", None, parent="1", data={"type": "bash_progress"})
    session = read_one(log.answer("2", "Done.", parent="1").user("3", "ok").write(tmp_path))
    assert [text for _, text in outline(session)] == ["do it", "Done.", "ok"]
