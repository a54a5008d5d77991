"""Logs of coding agents beside Claude Code, Codex, aider, Cursor and Copilot: who wrote what, what
was taken back, what the person let run.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from upshot.io.files import open_input
from upshot.records import BadRecord, RawConversation, RawMessage
from upshot.sources import reading
from upshot.sources.notes import collect_notes
from upshot.sources.speakers import words_of
from upshot.sources.swe_agent import cut_command, find_command

FILES = Path(__file__).parent / "files"
NAMES = {
    "gemini-cli": "gemini_cli.jsonl",
    "qwen-code": "qwen_code.jsonl",
    "swe-agent": "swe_agent.traj",
    "mini-swe-agent": "mini_swe_agent.json",
    "openhands": "openhands.json",
    "opencode": "opencode.json",
    "cline": "cline.json",
    "amp": "amp.json",
    "continue": "continue.json",
    "droid": "droid.jsonl",
    "kimi": "kimi.jsonl",
    "pi": "pi.jsonl",
    "windsurf": "windsurf.jsonl",
    "goose": "goose.jsonl",
}


def read_all(path: Path) -> list[RawConversation]:
    items = list(reading.read([path]))
    assert not [item for item in items if isinstance(item, BadRecord)]
    return [item for item in items if isinstance(item, RawConversation)]


def read_named(name: str) -> list[RawConversation]:
    return read_all(FILES / NAMES[name])


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in value))
    else:
        path.write_text(json.dumps(value))
    return path


def list_messages(conversation: RawConversation) -> list[tuple[str, str]]:
    return [(m.written_by, m.content) for m in conversation.messages]


def list_typed(conversation: RawConversation) -> list[str]:
    words = [words_of(m).split("\n") for m in conversation.messages if m.role == "user"]
    turns = ["\n".join(line.strip() for line in turn if line.strip()) for turn in words]
    return [turn for turn in turns if turn]


def signals(conversation: RawConversation, *kinds: str) -> list[tuple[int, str]]:
    return [
        (index, signal.kind)
        for index, message in enumerate(conversation.messages)
        for signal in message.signals
        if signal.kind in kinds
    ]


def calls(conversation: RawConversation) -> list[str]:
    return [call.name for m in conversation.messages for call in m.tool_calls]


@pytest.mark.parametrize("name", NAMES)
def test_each_format_is_told_by_its_content(name: str, tmp_path: Path) -> None:
    unnamed = tmp_path / "x"
    shutil.copy(FILES / NAMES[name], unnamed)
    source = open_input(str(unnamed))
    try:
        assert reading.detect(source) == name
    finally:
        source.close()


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1, "timestamp": "2026-01-01", "type": "info", "content": "started"},
        {"type": "task.created", "task": {"id": 5}, "time": 5},
        {"type": "invoice", "invoice": {"total": 5}, "status": "paid"},
        {"action": "allow", "source": "10.0.0.1", "message": "a packet"},
        {"type": "message", "message": "hello"},
        {"working_dir": "/p", "jobs": 5},
        {"sessionId": "s", "history": ["/home", "/cart"]},
        {"role": "user", "content": "hi", "agent": "billing"},
        {"role": "user", "content": "<task>hi</task>", "chat_id": "5"},
        {"messages": [], "id": "X-5"},
    ],
)
def test_logs_of_other_things_are_not_taken_for_an_agents(
    row: dict[str, Any], tmp_path: Path
) -> None:
    source = open_input(str(write(tmp_path / "x.jsonl", [row, row])))
    try:
        fits = reading.fits(reading.take_sample(source))
    finally:
        source.close()
    assert not [name for name, fit in fits if fit.readable and name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_no_message_is_empty_unless_it_calls(name: str) -> None:
    for conversation in read_named(name):
        assert all(m.content or m.tool_calls for m in conversation.messages)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gemini-cli", ["sum up @notes.md", "thanks"]),
        ("qwen-code", ["list it"]),
        ("swe-agent", ["sum() is wrong"]),
        ("mini-swe-agent", ["the sum is wrong", "keep the file!"]),
        ("openhands", ["fix the tests\n<image>", "they do not"]),
        ("opencode", ["add a flag\n<image>"]),
        ("cline", ["add a flag", "keep x", "still broken"]),
        ("amp", ["add a joke", "use puns.csv"]),
        ("continue", ["add a line to @a.ts", "do not delete it"]),
        ("droid", ["change @a.ts", "good"]),
        ("kimi", ["list it again"]),
        ("pi", ["run it", "make all"]),
        ("windsurf", ["write a song", "keep it"]),
        ("goose", ["list it", "never delete"]),
    ],
)
def test_the_person_wrote_what_they_typed_and_nothing_else(name: str, words: list[str]) -> None:
    assert list_typed(read_named(name)[0]) == words


@pytest.mark.parametrize("name", NAMES)
def test_thoughts_are_no_words_and_no_text_is_made_up(name: str) -> None:
    log = (FILES / NAMES[name]).read_text()
    for conversation in read_named(name):
        for message in conversation.messages:
            assert message.content.strip() not in ("hm", "thinking about it")
            for line in message.content.splitlines():
                assert line.startswith("<image") or json.dumps(line)[1:-1] in log


@pytest.mark.parametrize(
    ("name", "left", "kept"),
    [
        ("gemini-cli", "The notes say: buy coffee.", "The notes say: buy tea."),
        ("qwen-code", "There is b.py.", "There is a.py."),
        ("opencode", "Renamed.", "So far: a flag."),
        ("kimi", "It holds b.py.", "list it again"),
        ("pi", "It ran.", "There is no rule."),
    ],
)
def test_what_was_taken_back_is_a_branch_and_is_there_once(name: str, left: str, kept: str) -> None:
    main, branch = read_named(name)
    assert branch.branch_of == main.id
    assert branch.id != main.id
    assert left in [m.content for m in branch.messages]
    assert left not in [m.content for m in main.messages]
    assert kept in [m.content for m in main.messages[branch.branch_at - 1 :] or main.messages]
    assert signals(branch, "undo")
    assert not signals(main, "undo")


@pytest.mark.parametrize(
    ("name", "kind", "call"),
    [
        ("mini-swe-agent", "reject", '{"command":"rm a.py"}'),
        ("opencode", "reject", '{"filePath":"a.py"}'),
        ("cline", "reject", '{"command":"rm -rf x"}'),
        ("amp", "reject", '{"path":"jokes.csv"}'),
        ("continue", "reject", '{"command":"rm a.ts"}'),
        ("droid", "reject", '{"file_path":"/p/a.ts"}'),
        ("windsurf", "reject", '{"command":"rm a.md","cwd":"/p"}'),
        ("goose", "reject", '{"command":"rm a.py"}'),
    ],
)
def test_a_call_that_was_not_let_run_says_so(name: str, kind: str, call: str) -> None:
    main = read_named(name)[0]
    ((index, _),) = signals(main, kind)
    assert call in [c.arguments for c in main.messages[index].tool_calls]


@pytest.mark.parametrize("name", ["cline", "amp", "pi"])
def test_an_answer_that_was_stopped_says_so(name: str) -> None:
    main = read_named(name)[0]
    ((index, _),) = signals(main, "interrupt")
    assert main.messages[index].content in ("I am", "Writing to", "There is no rule.")


@pytest.mark.parametrize(
    ("name", "status"),
    [("gemini-cli", 2), ("openhands", 1), ("opencode", 2), ("amp", 0), ("windsurf", 2), ("pi", 1)],
)
def test_the_status_is_the_exit_code_that_the_log_states(name: str, status: int) -> None:
    tools = [m for m in read_named(name)[0].messages if m.role == "tool"]
    assert tools[0].status == status


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gemini-cli", "gemini-3-pro"),
        ("qwen-code", "qwen3-coder"),
        ("swe-agent", "gpt-4o"),
        ("mini-swe-agent", "claude-sonnet-4"),
        ("openhands", "claude-sonnet-4"),
        ("opencode", "sonnet"),
        ("cline", "sonnet"),
        ("amp", "opus"),
        ("continue", "sonnet"),
        ("kimi", "kimi-k2"),
        ("pi", "sonnet"),
    ],
)
def test_every_session_names_its_model_and_no_user(name: str, model: str) -> None:
    for conversation in read_named(name):
        assert conversation.model == model
        assert conversation.user == ""


def test_gemini_files_named_with_at_are_the_machines() -> None:
    main = read_named("gemini-cli")[0]
    assert "buy tea" in main.messages[0].content
    assert "buy tea" not in words_of(main.messages[0])


def test_gemini_lines_of_one_id_are_one_answer() -> None:
    main = read_named("gemini-cli")[0]
    assert main.messages[1].content == "Reading."
    assert main.messages[2].role == "tool"


def test_a_gemini_history_that_repeats_calls_and_results_gives_each_once(tmp_path: Path) -> None:
    call = {"id": "c", "name": "ls", "args": {}}
    answer = {"functionResponse": {"id": "c", "name": "ls", "response": {"output": "a.py"}}}
    rows = [
        GEMINI_HEAD,
        gemini("user", "1", "list it"),
        gemini(
            "gemini",
            "2",
            [{"text": "ok"}, {"functionCall": call}],
            toolCalls=[{**call, "status": "success", "result": [answer]}],
        ),
        gemini("user", "3", [answer]),
    ]
    (main,) = read_all(write(tmp_path / "s.jsonl", rows))
    assert [m.role for m in main.messages] == ["user", "assistant", "tool"]
    assert calls(main) == ["ls"]


GEMINI_HEAD = {"sessionId": "s", "projectHash": "h", "startTime": "2026-02-03T09:00:00Z"}


def gemini(kind: str, name: str, content: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "timestamp": "2026-02-03T09:00:00Z",
        "type": kind,
        "content": content,
        **more,
    }


def test_gemini_sessions_before_json_lines_are_one_object(tmp_path: Path) -> None:
    messages = [gemini("user", "1", "hi"), gemini("gemini", "2", "hello", model="g"), 5]
    with collect_notes() as notes:
        (main,) = read_all(write(tmp_path / "s.json", {**GEMINI_HEAD, "messages": messages}))
    assert list_messages(main) == [("person", "hi"), ("model", "hello")]
    assert main.id == "s"
    assert sum(notes.skipped.values()) == 1


def test_gemini_compaction_keeps_what_was_said_before_it(tmp_path: Path) -> None:
    rows = [
        GEMINI_HEAD,
        gemini("user", "1", "first wish"),
        gemini("gemini", "2", "first answer"),
        {
            "$set": {
                "messages": [
                    gemini("user", "9", [{"text": "<state_snapshot>all</state_snapshot>"}]),
                    gemini("gemini", "2", "first answer"),
                ]
            }
        },
        gemini("user", "3", "second wish"),
    ]
    (main,) = read_all(write(tmp_path / "s.jsonl", rows))
    assert list_typed(main) == ["first wish", "second wish"]
    assert [m.content for m in main.messages].count("first answer") == 1


@pytest.mark.parametrize("at", ["1", "2", "gone"])
def test_a_rewind_at_the_end_leaves_the_rest_as_a_branch(at: str, tmp_path: Path) -> None:
    rows = [
        GEMINI_HEAD,
        gemini("user", "1", "hi"),
        gemini("gemini", "2", "hello"),
        {"$rewindTo": at},
        gemini("user", "3", "again"),
    ]
    main, branch = read_all(write(tmp_path / "s.jsonl", rows))
    assert main.messages[-1].content == "again"
    assert branch.messages[-1].content == "hello"


def test_what_was_taken_back_before_the_end_is_read_and_says_so(tmp_path: Path) -> None:
    rows = [GEMINI_HEAD, gemini("user", "1", "hi"), gemini("gemini", "2", "hello")]
    (main,) = read_all(write(tmp_path / "s.jsonl", [*rows, {"$rewindTo": "1"}]))
    assert list_messages(main) == [("person", "hi"), ("model", "hello")]
    assert signals(main, "undo") == [(1, "undo")]


@pytest.mark.parametrize("name", ["qwen-code", "pi"])
def test_a_line_that_was_lost_does_not_take_back_what_came_before_it(
    name: str, tmp_path: Path
) -> None:
    lines = (FILES / NAMES[name]).read_text().splitlines()
    kept = [line for line in lines if '"a2"' not in line[:12] and '"id":"e2"' not in line[:30]]
    (tmp_path / "x.jsonl").write_text("\n".join(kept))
    main = read_all(tmp_path / "x.jsonl")[0]
    assert list_typed(main)[0] == list_typed(read_named(name)[0])[0]


def test_gemini_sub_agents_have_a_parent_and_no_person(tmp_path: Path) -> None:
    rows = [
        {**GEMINI_HEAD, "kind": "subagent"},
        gemini("user", "1", "look"),
        gemini("gemini", "2", "ok"),
    ]
    (child,) = read_all(write(tmp_path / "chats" / "main-1" / "s.jsonl", rows))
    assert child.parent == "main-1"
    assert list_typed(child) == []


def test_a_notification_is_no_wish_in_qwen() -> None:
    assert ("machine", "Task 4 ended.") in list_messages(read_named("qwen-code")[0])


def test_words_typed_while_qwen_worked_or_in_its_commands_are_the_persons(tmp_path: Path) -> None:
    def row(name: str, **more: Any) -> dict[str, Any]:
        return {"uuid": name, "sessionId": "q", "timestamp": "2026-02-03T09:00:00Z", **more}

    rows = [
        row("1", type="user", message={"role": "user", "parts": [{"text": "go"}]}),
        row(
            "2",
            parentUuid="1",
            type="user",
            subtype="mid_turn_user_message",
            systemPayload={"displayText": "save it"},
            message={"role": "user", "parts": [{"text": "\n[User message received]: save it"}]},
        ),
        row(
            "3",
            parentUuid="2",
            type="system",
            subtype="slash_command",
            systemPayload={"phase": "invocation", "rawCommand": "/memory add be brief"},
        ),
        row(
            "4",
            parentUuid="3",
            type="assistant",
            model="q",
            message={"role": "model", "parts": [{"text": "ok"}]},
        ),
    ]
    (main,) = read_all(write(tmp_path / "q.jsonl", rows))
    assert list_typed(main) == ["go", "save it", "add be brief"]


def test_actions_of_swe_agent_are_calls_and_demonstrations_are_left_out() -> None:
    with collect_notes() as notes:
        main = read_named("swe-agent")[0]
    assert calls(main) == ["open", "bash", "bash"]
    assert "demonstration" not in " ".join(m.content for m in main.messages)
    assert notes.skipped["swe-agent: demonstrations"] == 1


@pytest.mark.parametrize(
    ("text", "words", "command"),
    [
        ("Look.\n```\nls\n```", "Look.", "ls"),
        ("Look.\n```bash\nls -a\n```\n", "Look.", "ls -a"),
        ("```\none\n```\nand\n```\ntwo\n```", "```\none\n```\nand", "two"),
        ("no block", "no block", ""),
        ("``` open", "``` open", ""),
    ],
)
def test_the_fenced_command_at_the_end_is_the_call(text: str, words: str, command: str) -> None:
    assert cut_command(text) == words
    assert find_command(text)[1] == command


@pytest.mark.parametrize(
    "record",
    [
        {
            "instance_id": "i",
            "trajectory": [
                {"role": "system", "system_prompt": "s"},
                {"role": "user", "text": "fix it"},
                {"role": "ai", "text": "look\n```\nls\n```"},
                {"role": "user", "text": "a.py"},
            ],
            "exit_status": "submitted",
            "target": True,
        },
        {
            "traj_id": "t",
            "resolved": True,
            "messages": json.dumps(
                [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "fix it"},
                    {
                        "role": "assistant",
                        "content": "look",
                        "tool_calls": [
                            {
                                "id": "1",
                                "function": {"name": "bash", "arguments": '{"command":"ls"}'},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "a.py"},
                ]
            ),
        },
        {
            "attempts": [
                {
                    "trajectory": [
                        {
                            "action": "ls",
                            "observation": "a.py",
                            "response": "look",
                            "thought": "look",
                        }
                    ],
                    "history": [
                        {"role": "system", "content": "s"},
                        {"role": "user", "content": "fix it"},
                    ],
                    "info": {"exit_status": "submitted"},
                    "resolved": True,
                }
            ]
        },
    ],
)
def test_data_sets_of_trajectories_read_as_their_files_do(
    record: dict[str, Any], tmp_path: Path
) -> None:
    (main,) = read_all(write(tmp_path / "t.jsonl", [record]))
    assert [m.role for m in main.messages] == ["system", "user", "assistant", "tool"]
    assert list_typed(main) == ["fix it"]
    assert calls(main) == ["bash"]
    assert signals(main, "outcome") == [(2, "outcome")]


def test_bare_messages_of_mini_swe_agent_are_told_by_their_return_codes(tmp_path: Path) -> None:
    whole = json.loads((FILES / NAMES["mini-swe-agent"]).read_text())
    (main,) = read_all(write(tmp_path / "x.json", whole["messages"]))
    assert main.source == "mini-swe-agent"
    assert [m.role for m in main.messages if m.content.startswith("<returncode>")] == ["tool"]


def test_chats_that_nobody_marks_are_left_to_general_readers(tmp_path: Path) -> None:
    rows = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    (main,) = read_all(write(tmp_path / "x.json", rows))
    assert main.source not in NAMES


def test_a_delegate_of_openhands_is_a_conversation_of_its_own() -> None:
    main, child = read_named("openhands")
    assert child.parent == main.id
    assert main.messages[child.parent_at].tool_calls[0].name == "delegate"
    assert "browse" not in calls(main)


@pytest.mark.parametrize(("word", "value"), [("positive", 1.0), ("negative", -1.0)])
def test_feedback_on_a_trajectory_goes_to_its_last_response(
    word: str, value: float, tmp_path: Path
) -> None:
    events = json.loads((FILES / NAMES["openhands"]).read_text())[:5]
    path = write(tmp_path / "t.json", {"version": "1", "feedback": word, "trajectory": events})
    (main,) = read_all(path)
    last = [m for m in main.messages if m.role == "assistant"][-1]
    assert [s.value for s in last.signals if s.kind == "thumb"] == [value]


def sdk_events() -> list[dict[str, Any]]:
    def event(kind: str, source: str, **more: Any) -> dict[str, Any]:
        return {
            "id": kind,
            "timestamp": "2026-01-05T10:00:00",
            "source": source,
            "kind": kind,
            **more,
        }

    text = [{"type": "text", "text": "fix it"}]
    return [
        event("SystemPromptEvent", "agent", system_prompt={"type": "text", "text": "You are."}),
        event(
            "MessageEvent",
            "user",
            llm_message={"role": "user", "content": text},
            extended_content=[{"type": "text", "text": "a skill"}],
        ),
        event(
            "ActionEvent",
            "agent",
            thought=[{"type": "text", "text": "look"}],
            tool_name="terminal",
            tool_call_id="c1",
            tool_call={"id": "c1", "name": "terminal", "arguments": '{"command":"ls"}'},
        ),
        event(
            "ObservationEvent",
            "environment",
            tool_name="terminal",
            tool_call_id="c1",
            observation={"content": [{"type": "text", "text": "a.py"}], "exit_code": 0},
        ),
        event(
            "ActionEvent",
            "agent",
            tool_name="finish",
            tool_call_id="c2",
            action={"message": "Done.", "kind": "FinishAction"},
        ),
        event("PauseEvent", "user"),
    ]


def test_events_of_openhands_sdk(tmp_path: Path) -> None:
    (main,) = read_all(write(tmp_path / "e.jsonl", sdk_events()))
    assert [m.role for m in main.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert list_typed(main) == ["fix it"]
    assert main.messages[3].status == 0
    assert main.messages[4].content == "Done."
    assert signals(main, "interrupt") == [(4, "interrupt")]


def test_a_folder_of_events_is_one_conversation(tmp_path: Path) -> None:
    for number, event in enumerate(sdk_events()):
        write(tmp_path / "c" / "events" / f"event-{number:05}-ab.json", event)
    write(tmp_path / "c" / "base_state.json", {"id": "conv-7", "agent": {"llm": {"model": "opus"}}})
    (main,) = read_all(tmp_path / "c")
    assert main.id == "conv-7"
    assert main.model == "opus"
    assert len(main.messages) == 5


def opencode_folder(root: Path) -> Path:
    whole = json.loads((FILES / NAMES["opencode"]).read_text())
    storage = root / "storage"
    write(storage / "session" / "p" / "ses_1.json", whole["info"])
    for entry in whole["messages"]:
        name = entry["info"]["id"]
        write(storage / "message" / "ses_1" / f"{name}.json", entry["info"])
        for number, part in enumerate(entry["parts"]):
            part = {"sessionID": "ses_1", "messageID": name, **part}
            write(storage / "part" / name / f"{number:03}.json", part)
    write(storage / "session_diff" / "ses_1.json", [{"file": "a.py", "additions": 1}])
    return storage


@pytest.mark.parametrize("packed", [False, True])
def test_a_storage_folder_reads_as_the_export_does(packed: bool, tmp_path: Path) -> None:
    path = opencode_folder(tmp_path / "data")
    if packed:
        path = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", path.parent))
    assert [list_messages(c) for c in read_all(path)] == [
        list_messages(c) for c in read_named("opencode")
    ]


def test_a_sub_agent_of_opencode_names_the_call_that_started_it(tmp_path: Path) -> None:
    storage = opencode_folder(tmp_path)
    child = {
        "id": "ses_2",
        "parentID": "ses_1",
        "title": "x",
        "version": "1",
        "time": {"created": 1},
    }
    write(storage / "session" / "p" / "ses_2.json", child)
    info = {"id": "m", "sessionID": "ses_2", "role": "user", "time": {"created": 1}}
    write(storage / "message" / "ses_2" / "m.json", info)
    write(storage / "part" / "m" / "1.json", {"type": "text", "text": "look it up"})
    part = storage / "part" / "msg_2" / "003.json"
    call = json.loads(part.read_text())
    call["state"]["metadata"]["sessionId"] = "ses_2"
    write(part, call)
    found = [c for c in read_all(storage) if c.id == "ses_2"]
    assert [(c.parent, c.parent_at, list_typed(c)) for c in found] == [("ses_1", 1, [])]


def test_a_task_folder_of_cline_is_one_conversation_named_by_its_task(tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "1760000000000"
    folder.mkdir(parents=True)
    shutil.copy(FILES / NAMES["cline"], folder / "api_conversation_history.json")
    write(
        folder / "ui_messages.json", [{"ts": 1, "type": "say", "say": "task", "text": "add a flag"}]
    )
    write(folder / "task_metadata.json", {"files_in_context": []})
    (main,) = read_all(folder)
    assert main.id == "1760000000000"
    assert list_typed(main) == ["add a flag", "keep x", "still broken"]


def test_what_cline_shows_reads_where_it_lies_alone(tmp_path: Path) -> None:
    rows = [
        ("say", "task", "add a flag"),
        ("say", "api_req_started", '{"cancelReason":"user_cancelled"}'),
        ("say", "text", "Reading."),
        ("ask", "command", "ls"),
        ("say", "command_output", "a.py"),
        ("ask", "followup", '{"question":"Which file?","options":[]}'),
        ("say", "user_feedback", "a.py"),
    ]
    path = write(
        tmp_path / "ui.json",
        [{"ts": 1760000000000 + i, "type": t, t: k, "text": x} for i, (t, k, x) in enumerate(rows)],
    )
    (main,) = read_all(path)
    assert [m.role for m in main.messages] == [
        "user",
        "assistant",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert main.messages[4].content == "Which file?"
    assert list_typed(main) == ["add a flag", "a.py"]


def test_roo_code_calls_tools_natively_and_hands_feedback_over_as_json(tmp_path: Path) -> None:
    def result(content: Any) -> dict[str, Any]:
        return {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": content}],
        }

    def call(name: str, **given: Any) -> dict[str, Any]:
        return {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": name, "input": given}],
        }

    rows = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "<task>\ngo\n</task>"}],
            "ts": 1760000000000,
        },
        {"type": "reasoning", "summary": []},
        call("execute_command", command="ls"),
        result(
            '{"status":"denied","message":"The user denied this operation","feedback":"use dir"}'
        ),
        call("ask_followup_question", question="Which?", follow_up=[]),
        result("<answer>\nthe first\n</answer>"),
        {"role": "user", "content": [{"type": "text", "text": "## Summary"}], "isSummary": True},
    ]
    (main,) = read_all(write(tmp_path / "roo.json", rows))
    assert list_typed(main) == ["go", "use dir", "the first"]
    assert signals(main, "reject") == [(1, "reject")]
    assert main.messages[4].content == "Which?"
    assert main.messages[-1].author == "machine"


def test_the_xml_of_a_call_is_a_call_and_its_result_the_tools() -> None:
    main = read_named("cline")[0]
    assert calls(main) == ["read_file", "execute_command", "attempt_completion"]
    assert main.messages[1].content == "I'll read it."
    assert ("tool", "print(1)") in list_messages(main)


def test_what_kimi_was_told_last_is_kept_though_it_never_reached_the_context() -> None:
    assert read_named("kimi")[0].messages[-1].content == "list it again"


def test_the_wire_of_kimi_cli_with_its_sub_agents(tmp_path: Path) -> None:
    def row(kind: str, **payload: Any) -> dict[str, Any]:
        return {"timestamp": 1760000000.5, "message": {"type": kind, "payload": payload}}

    def call(name: str, key: str) -> dict[str, Any]:
        return row("ToolCall", type="function", id=key, function={"name": name, "arguments": "{}"})

    rows = [
        {"type": "metadata", "protocol_version": "1.2"},
        row("TurnBegin", user_input="list it"),
        row("StepBegin", n=1),
        row("ContentPart", type="think", think="hm"),
        row("ContentPart", type="text", text="List"),
        row("ContentPart", type="text", text="ing."),
        call("Task", "t1"),
        row(
            "SubagentEvent",
            task_tool_call_id="t1",
            event=row("TurnBegin", user_input="look")["message"],
        ),
        row(
            "SubagentEvent",
            task_tool_call_id="t1",
            event=row("ContentPart", type="text", text="It is a.py")["message"],
        ),
        row("ToolResult", tool_call_id="t1", return_value={"is_error": False, "output": "a.py"}),
        row("StepInterrupted"),
        row("SteerInput", user_input="no, b"),
    ]
    main, child = read_all(write(tmp_path / "wire.jsonl", rows))
    assert list_messages(main) == [
        ("person", "list it"),
        ("model", "Listing."),
        ("tool", "a.py"),
        ("person", "no, b"),
    ]
    assert signals(main, "interrupt") == [(1, "interrupt")]
    assert list_messages(child) == [("machine", "look"), ("model", "It is a.py")]
    assert (child.parent, child.parent_at) == (main.id, 1)


def test_a_context_of_kimi_cli_is_not_read_beside_its_wire(tmp_path: Path) -> None:
    context = [
        {"role": "_checkpoint", "id": 0},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]
    write(tmp_path / "s" / "context.jsonl", context)
    (alone,) = read_all(tmp_path / "s")
    assert list_typed(alone) == ["hi"]
    shutil.copy(FILES / NAMES["kimi"], tmp_path / "s" / "wire.jsonl")
    assert "hi" not in [m.content for c in read_all(tmp_path / "s") for m in c.messages]


def test_what_channels_of_openclaw_put_around_words_is_the_machines(tmp_path: Path) -> None:
    texts = [
        'Conversation info (untrusted metadata):\n```json\n{"id": 1}\n```\n\nrun it',
        "[Tue 2026-05-12 01:00 UTC] run it",
        "System: [2026-05-12 01:00] connected\nrun it",
        "run it",
    ]
    for number, text in enumerate(texts):
        rows = [
            {"type": "session", "id": f"s{number}", "timestamp": "2026-05-12T01:00:00Z"},
            {
                "type": "message",
                "id": "a",
                "parentId": None,
                "timestamp": "2026-05-12T01:00:00Z",
                "message": {"role": "user", "content": [{"type": "text", "text": text}]},
            },
        ]
        (main,) = read_all(write(tmp_path / f"{number}.jsonl", rows))
        assert list_typed(main) == ["run it"]
        assert main.messages[0].content == text


def test_what_a_run_of_droid_prints(tmp_path: Path) -> None:
    rows = [
        {"type": "system", "subtype": "init", "session_id": "d", "cwd": "/p", "model": "opus"},
        {
            "type": "message",
            "role": "user",
            "id": "1",
            "text": "list it",
            "timestamp": 1760000000000,
            "session_id": "d",
        },
        {"type": "tool_call", "id": "c", "toolName": "LS", "parameters": {}, "session_id": "d"},
        {
            "type": "tool_result",
            "id": "c",
            "toolName": "LS",
            "isError": False,
            "value": "a.py",
            "session_id": "d",
        },
        {
            "type": "message",
            "role": "assistant",
            "id": "2",
            "text": "a.py it is",
            "session_id": "d",
        },
        {"type": "completion", "finalText": "a.py it is", "session_id": "d"},
    ]
    (main,) = read_all(write(tmp_path / "x.jsonl", rows))
    assert list_messages(main) == [
        ("person", "list it"),
        ("model", ""),
        ("tool", "a.py"),
        ("model", "a.py it is"),
    ]
    assert main.model == "opus"


def test_goose_reads_lines_and_exports_alike(tmp_path: Path) -> None:
    head, *messages = [json.loads(x) for x in (FILES / NAMES["goose"]).read_text().splitlines()]
    export = {**head, "id": "20260101_1", "conversation": messages}
    (main,) = read_all(write(tmp_path / "g.json", export))
    assert list_messages(main) == list_messages(read_named("goose")[0])
    assert main.id == "20260101_1"


def test_taking_an_edit_of_windsurf_over_is_said_of_it() -> None:
    main = read_named("windsurf")[0]
    assert signals(main, "copy") == [(2, "copy")]


def mutate(value: Any, rng: random.Random) -> Any:
    """The value with one field, anywhere, of another kind."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, inner in items:
            places.append((node, key))
            if isinstance(inner, (dict, list)):
                walk(inner)

    walk(value)
    node, key = rng.choice(places)
    node[key] = rng.choice([None, 5, "x", [], {}, [5], {"a": 1}, True])
    return value


@pytest.mark.parametrize("name", NAMES)
def test_no_field_of_another_kind_ends_a_run(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    path = FILES / NAMES[name]
    copy = tmp_path / path.name
    for _ in range(25):
        lines = path.read_text().splitlines()
        if path.suffix == ".jsonl":
            rows = mutate([json.loads(line) for line in lines], chance)
            copy.write_text("\n".join(map(json.dumps, rows)))
        else:
            copy.write_text(json.dumps(mutate([json.loads(path.read_text())], chance)[0]))
        for item in reading.read_file(str(copy), name):
            if isinstance(item, RawConversation):
                assert all(isinstance(m, RawMessage) for m in item.messages)
                assert "shape" not in item.place
