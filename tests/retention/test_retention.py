"""The retention of an assistant's lines, and how it becomes a response's outcome."""

from __future__ import annotations

import json
from pathlib import Path

from tests.retention.repositories import Repository, blamed, git, random_history
from typer.testing import CliRunner

import upshot
from upshot.api import opening
from upshot.cli.app import app
from upshot.config import load
from upshot.retention.edit_survival import four_gram_survival, not_reverted_share
from upshot.retention.pipeline import measure_retention

AIDER = "Ana (aider) <ana@example.com>"


def story(folder: Path) -> tuple[Repository, list[str]]:
    """An assistant adds four lines; a person replaces one, another assistant deletes one; then the
    file is formatted.
    """
    repository = Repository(folder)
    commits = [repository.commit({"a.py": "start\n"})]
    commits.append(
        repository.commit(
            {"a.py": "start\none = f(1)\ntwo = 2\nthree = 3\nfour = 4\n"}, "add", AIDER, day=1
        )
    )
    repository.tag("v1")
    commits.append(
        repository.commit(
            {"a.py": "start\none = f(1)\nTWO = 22\nthree = 3\nfour = 4\n"}, "own", day=10
        )
    )
    repository.tag("v2")
    commits.append(
        repository.commit(
            {"a.py": "start\none = f(1)\nTWO = 22\nthree = 3\n"},
            "cut\n\nCo-authored-by: Claude <noreply@anthropic.com>",
            day=20,
        )
    )
    commits.append(
        repository.commit(
            {"a.py": "start\none = f(\n    1,\n)\nTWO = 22\nthree = 3\n"}, "format", day=30
        )
    )
    repository.tag("v3")
    commits.append(
        repository.commit(
            {"a.py": "start\none = f(\n    1,\n)\nTWO = 22\nthree = 3\nlast\n"}, "later", day=200
        )
    )
    return repository, commits


def test_counts_curves_and_who_replaced_what(tmp_path: Path) -> None:
    repository, commits = story(tmp_path / "r")
    report = measure_retention(repository.folder).report
    by_commit = {commit.commit: commit for commit in report.commits}
    assert set(by_commit) == {commits[1]}, "the commit that only deleted added nothing"
    row = by_commit[commits[1]]
    assert (row.agent, row.how, row.lines_added) == ("aider", "author", 4)
    assert row.alive == {"v1": 4, "v2": 3, "v3": 1, "HEAD": 1}
    assert row.alive_formatted == 2
    assert (row.removed_by, row.replaced) == ({"people": 1, "claude": 1}, 1)
    assert row.outcome is not None
    assert (row.outcome.retained, row.outcome.known) == (0.5, 1.0)
    assert [(release.name, release.ai_lines) for release in report.releases] == [
        ("v1", 4),
        ("v2", 3),
        ("v3", 1),
        ("HEAD", 1),
    ]
    assert report.ai.alive["7"].value == 1.0
    assert report.ai.alive["30"].value == 0.5


def test_alive_counts_are_blames_for_every_attributed_commit(tmp_path: Path) -> None:
    repository = random_history(tmp_path / "r", 5, 16)
    named = git(repository.folder, "rev-list", "HEAD").split()[::2]
    mentions = [api_mention(commit) for commit in named]
    for commit in measure_retention(repository.folder, mentions).report.commits:
        for release, lines in commit.alive.items():
            assert lines == blamed(repository.folder, release)[commit.commit]


def api_mention(commit: str):
    from upshot.retention.attribution import Mention

    return Mention(commit, (commit, 0))


def test_only_the_named_files_count(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit({"a.py": "1\n2\n", "b.md": "1\n2\n3\n"}, author=AIDER)
    assert measure_retention(repository.folder, paths=["*.md"]).report.releases[-1].ai_lines == 3


def test_without_tags_months_are_the_releases(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    for number in range(4):
        repository.commit({"a": "x\n" * (number + 1)}, day=20 * number)
    assert len(measure_retention(repository.folder).report.releases) == 3


def test_edits_say_how_much_text_is_left_and_whether_it_was_taken_back(tmp_path: Path) -> None:
    repository, commits = story(tmp_path / "r")
    edits = measure_retention(repository.folder, with_edits=True).edits
    assert edits is not None
    at = {edit.release: edit for edit in edits if edit.commit == commits[1]}
    assert at["v1"].four_gram == 1.0
    assert 0 < at["HEAD"].four_gram < 1
    assert at["HEAD"].not_reverted > 0.3
    assert not_reverted_share(b"one\n", b"one\ntwo\n", b"one\n") == 0.0
    assert four_gram_survival(b"", b"abc", b"abc") != four_gram_survival(b"", b"abc", b"abc"), (
        "three bytes hold no four-gram: not a number"
    )


def test_a_responses_commit_becomes_its_outcome_in_the_lake(tmp_path: Path) -> None:
    repository, commits = story(tmp_path / "r")
    chat = {
        "id": "c1",
        "user": "u1",
        "messages": [
            {"role": "user", "content": "add numbers", "time": "2023-11-15T00:00:00Z"},
            {"role": "assistant", "content": "done, I commit"},
            {
                "role": "tool",
                "content": f"[main {commits[1][:9]}] add\n 1 file changed, 4 insertions(+)",
            },
            {"role": "assistant", "content": "committed"},
        ],
    }
    (tmp_path / "chat.jsonl").write_text(json.dumps(chat) + "\n")
    lake = tmp_path / "lake"
    upshot.ingest(tmp_path / "chat.jsonl", lake)
    result = upshot.retention(repository.folder, lake=lake)
    assert [(commit.id, commit.index) for commit in result.report.commits] == [("c1", 1)]
    events = [
        row
        for row in opening.open_lake(lake).read("events").to_pylist()
        if row["kind"] == "outcome"
    ]
    assert [
        (row["index"], row["detail"].split(":")[0], round(row["value"], 4)) for row in events
    ] == [(1, "retention", round(result.report.commits[0].lift or 0, 4))]
    assert "kept 0.50" in events[0]["detail"]
    upshot.retention(repository.folder, lake=lake)
    assert (
        sum(row["kind"] == "outcome" for row in opening.open_lake(lake).read("events").to_pylist())
        == 1
    ), "the newest counts"
    assert (
        upshot.retention(repository.folder, logs=tmp_path / "chat.jsonl").report.commits[0].id
        == "c1"
    )


def test_the_command_prints_the_report_as_json(tmp_path: Path) -> None:
    repository, commits = story(tmp_path / "r")
    done = CliRunner().invoke(
        app,
        [
            "retention",
            str(repository.folder),
            "--json",
            "--state",
            str(tmp_path / "state"),
            "--edits",
        ],
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[0])
    assert report["commits"][0]["commit"] == commits[1]
    assert report["edits"]
    assert report["ai"]["alive"]["30"]["value"] == 0.5
    assert (tmp_path / "state").is_file()
    assert load() is not None
