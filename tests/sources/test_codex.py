"""Codex's rollouts and the output of `codex exec`: who spoke, what was rolled back or repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sources.agent_logs import (
    FILES,
    call_names,
    kinds,
    outline,
    read_all,
    read_one,
    words,
    write_lines,
)

from upshot.errors import FormatError
from upshot.io.files import open_input
from upshot.records import RawConversation
from upshot.sources.reading import detect, read


@pytest.mark.parametrize(
    ("file", "format"),
    [
        ("claude_code.jsonl", "claude-code"),
        ("codex.jsonl", "codex"),
        ("codex_exec.jsonl", "codex-exec"),
        ("aider.md", "aider"),
        ("specstory.md", "specstory"),
        ("cursor.jsonl", "cursor"),
        ("copilot_chat.json", "copilot-chat"),
        ("copilot_cli.jsonl", "copilot-cli"),
    ],
)
def test_each_log_is_recognised_by_its_records(file: str, format: str) -> None:
    source = open_input(str(FILES / file))
    assert detect(source) == format
    source.close()


def line(kind: str, **payload: object) -> dict[str, object]:
    return {"timestamp": "2026-03-02T09:00:00Z", "type": kind, "payload": payload}


def say(role: str, *texts: str) -> dict[str, object]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text} for text in texts]
    return line("response_item", type="message", role=role, content=content)


META = line("session_meta", id="r-1", timestamp="2026-03-02T09:00:00Z", cwd="/w", cli_version="1")


def rollout(path: Path, *lines: object) -> RawConversation:
    return read_all(write_lines(path / "r.jsonl", META, *lines))[0]


def test_a_rollout_is_read_once_though_events_repeat_it() -> None:
    session = read_one(FILES / "codex.jsonl")
    assert outline(session)[1:] == [
        ("u", "sort the basket by price"),
        ("a", "Looking."),
        ("t", "basket.py\n"),
        ("a", "Sorted."),
    ]
    assert (session.id, session.user, session.model) == ("r-1", "", "gpt-q")
    assert session.metadata["gitBranch"] == "basket"
    assert (call_names(session), session.messages[3].status) == (["shell"], 0)


def test_a_rollout_of_events_alone_is_read_from_them(tmp_path: Path) -> None:
    session = rollout(
        tmp_path,
        line("event_msg", type="user_message", message="list"),
        line(
            "event_msg",
            type="exec_command_end",
            call_id="k",
            command=["ls"],
            exit_code=2,
            aggregated_output="none",
        ),
        line("event_msg", type="agent_message", message="None."),
        line(
            "event_msg",
            type="item_completed",
            item={"type": "AgentMessage", "content": [{"type": "Text", "text": "None."}]},
        ),
    )
    assert outline(session) == [("u", "list"), ("a", ""), ("t", "none"), ("a", "None.")]
    assert session.messages[2].status == 2


@pytest.mark.parametrize(
    "text",
    [
        "# AGENTS.md instructions for /w\n\n<INSTRUCTIONS>\nNever fail.\n</INSTRUCTIONS>",
        "<environment_context>\n<cwd>/w</cwd>\n</environment_context>",
        "<user_instructions>\nBe brief.\n</user_instructions>",
        "<subagent_notification>\n{}\n</subagent_notification>",
        "<turn_aborted>\nThe user interrupted the turn.\n</turn_aborted>",
        "Another language model started to solve this problem and produced a summary: x",
    ],
)
def test_what_codex_puts_into_a_users_item_is_no_persons(tmp_path: Path, text: str) -> None:
    session = rollout(tmp_path, say("user", text), say("user", "go"), say("assistant", "Done."))
    assert words(session) == ["go"]


def test_the_request_behind_an_editors_context_is_the_persons(tmp_path: Path) -> None:
    text = "# Context from my IDE setup:\n\n## Active file: a.py\n\n## My request for Codex:\nfix"
    assert words(rollout(tmp_path, say("user", text))) == ["fix"]


def test_a_picture_leaves_its_mark_and_no_tags(tmp_path: Path) -> None:
    item = say("user", "<image name=[Image #1]>", "</image>", "what is this?")
    item["payload"]["content"].insert(1, {"type": "input_image", "image_url": "data:"})  # type: ignore[index]
    assert outline(rollout(tmp_path, item)) == [("u", "<image>\nwhat is this?")]


def test_a_persons_shell_command_has_a_result(tmp_path: Path) -> None:
    text = (
        "<user_shell_command>\n<command>\nmake\n</command>\n"
        "<result>\nExit code: 2\nno\n</result>\n</user_shell_command>"
    )
    session = rollout(tmp_path, say("user", "build"), say("assistant", "Built."), say("user", text))
    assert outline(session)[2:] == [("u", "make"), ("t", "Exit code: 2\nno")]
    assert session.messages[3].status == 2


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ('{"output":"no","metadata":{"exit_code":3}}', 3),
        ("Exit code: 3\nWall time: 0.1 seconds\nOutput:\nno", 3),
        ("Chunk ID: 1\nProcess exited with code 3\nOutput:\nno", 3),
        ({"content": "no", "success": False}, 1),
        ("no", None),
    ],
)
def test_an_exit_code_is_the_logs(tmp_path: Path, output: object, status: int | None) -> None:
    call = line("response_item", type="function_call", name="shell", arguments="{}", call_id="k")
    result = line("response_item", type="function_call_output", call_id="k", output=output)
    message = rollout(tmp_path, say("user", "x"), call, result).messages[-1]
    assert (message.role, message.status) == ("tool", status)
    assert "no" in message.content


@pytest.mark.parametrize(
    ("output", "kind"),
    [("exec command rejected by user", "reject"), ("aborted by user after 3.1s", "interrupt")],
)
def test_a_call_that_the_person_stopped_is_no_failure(
    tmp_path: Path, output: str, kind: str
) -> None:
    call = line("response_item", type="function_call", name="shell", arguments="{}", call_id="k")
    result = line("response_item", type="function_call_output", call_id="k", output=output)
    session = rollout(tmp_path, say("user", "x"), call, result)
    assert (kinds(session.messages[1]), session.messages[2].status) == ([kind], None)


def test_a_roll_back_leaves_a_branch(tmp_path: Path) -> None:
    back = line("event_msg", type="thread_rolled_back", num_turns=1)
    lines = [say("user", "a"), say("assistant", "A."), say("user", "b"), say("assistant", "B.")]
    again = [say("user", "c"), say("assistant", "C.")]
    main, branch = read_all(write_lines(tmp_path / "r.jsonl", META, *lines, back, *again))
    assert [text for _, text in outline(main)] == ["a", "A.", "c", "C."]
    assert (branch.branch_of, branch.branch_at) == (main.id, 2)
    assert kinds(branch.messages[3]) == ["undo"]
    (main, branch) = read_all(write_lines(tmp_path / "r.jsonl", META, *lines, back))
    assert [text for _, text in outline(main)] == ["a", "A."]


def test_a_fork_shares_what_it_repeats(tmp_path: Path) -> None:
    lines = [say("user", "a"), say("assistant", "A.")]
    one = write_lines(tmp_path / "1.jsonl", META, *lines)
    fork = line("session_meta", id="r-2", forked_from_id="r-1", timestamp="2026-03-03T09:00:00Z")
    two = write_lines(tmp_path / "2.jsonl", fork, META, *lines, say("user", "b"))
    first, second = read_all(one, two)
    assert (second.id, second.branch_of, second.branch_at) == ("r-2", first.id, 2)


def test_what_survives_in_a_compaction_only_is_kept(tmp_path: Path) -> None:
    history = [{"type": "message", "role": "user", "content": "write a lexer"}]
    compacted = line("compacted", message="", replacement_history=history)
    assert words(rollout(tmp_path, compacted, say("user", "go on")))[0] == "write a lexer"
    session = rollout(tmp_path, say("user", "write a lexer"), compacted, say("assistant", "Ok."))
    assert words(session) == ["write a lexer"]


def test_a_sub_agents_rollout_names_its_parent(tmp_path: Path) -> None:
    source = {"subagent": {"thread_spawn": {"parent_thread_id": "r-0", "depth": 1}}}
    meta = line("session_meta", id="r-9", source=source)
    path = write_lines(tmp_path / "r.jsonl", meta, say("user", "look"), say("assistant", "Seen."))
    session = read_one(path)
    assert (session.parent, words(session)) == ("r-0", [])


def test_old_rollouts_are_read(tmp_path: Path) -> None:
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}]
    head = {"id": "r-3", "timestamp": "2025-05-01T09:00:00Z", "instructions": ""}
    assert words(read_one(write_lines(tmp_path / "r.jsonl", head, *items))) == ["a"]
    whole = {"session": head, "items": items}
    assert read_one(write_lines(tmp_path / "r.json", whole)).id == "r-3"


def test_a_rollout_without_messages_is_a_failure_that_says_so(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", META, line("event_msg", type="token_count"))
    with pytest.raises(FormatError, match="codex, but holds no conversation"):
        list(read([path]))


def test_the_output_of_codex_exec_is_one_thread() -> None:
    run = read_one(FILES / "codex_exec.jsonl")
    assert outline(run) == [("a", ""), ("t", "basket.py\n"), ("a", "There is one file.")]
    assert (run.id, run.messages[1].status) == ("th-7", 0)


def test_the_older_output_of_codex_exec_holds_the_prompt(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "x.jsonl",
        {"model": "o", "provider": "p", "sandbox": "s", "workdir": "/w"},
        {"prompt": "do it"},
        {"id": "0", "msg": {"type": "agent_message", "message": "Done."}},
    )
    assert outline(read_one(path)) == [("u", "do it"), ("a", "Done.")]
