"""One pass over history gives every line at every release the origin that `git blame -w` gives."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.retention.repositories import Repository, blamed, git, random_history

from upshot.errors import InputError, NotFoundError
from upshot.retention import history_cache
from upshot.retention.git import Git
from upshot.retention.line_history import LineHistory, trace_lines
from upshot.retention.report import find_releases


def counts(history: LineHistory) -> dict[str, Counter[str]]:
    owner = np.repeat(
        [history.commits[origin.commit].hash for origin in history.origins],
        [origin.size for origin in history.origins],
    )
    return {
        snapshot.name: Counter(map(str, np.repeat(owner, there)))
        for snapshot, there in history.present()
    }


@pytest.mark.parametrize("seed", range(12))
def test_every_release_of_any_history_counts_as_blame_does(tmp_path: Path, seed: int) -> None:
    repository = random_history(tmp_path / "r", seed)
    repo = Git(repository.folder)
    by_release = counts(trace_lines(repo, find_releases(repo)))
    assert by_release == {name: blamed(repository.folder, name) for name in by_release}


@pytest.mark.parametrize("seed", range(12, 17))
def test_a_history_kept_and_gone_on_with_is_the_history_read_at_once(
    tmp_path: Path, seed: int
) -> None:
    repository = random_history(tmp_path / "r", seed, 18)
    repo = Git(repository.folder)
    commits = git(repository.folder, "rev-list", "--reverse", "HEAD").split()
    history = None
    for place in (len(commits) // 3, 2 * len(commits) // 3, len(commits) - 1):
        history = trace_lines(
            repo,
            {
                **{
                    name: commit
                    for name, commit in find_releases(repo).items()
                    if commit in commits[:place]
                },
                "HEAD": commits[place],
            },
            history,
        )
        history_cache.save_history(history, tmp_path / "kept")
        history = history_cache.load_history(tmp_path / "kept", repo)
    whole = counts(trace_lines(repo, find_releases(repo)))
    assert history is not None
    assert counts(trace_lines(repo, find_releases(repo), history)) == whole


def test_what_formatting_rewrites_keeps_its_origin_beside_blames(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    first = repository.commit({"a.py": "x = call('one', 2)\ny = 3\nz = [1,\n     2]\n"})
    second = repository.commit(
        {"a.py": 'x = call(\n    "one",\n    2,\n)\ny = 3\nz = [1, 2]\n'}, "black"
    )
    repo = Git(repository.folder)
    history = trace_lines(repo, find_releases(repo))
    assert counts(history)["HEAD"] == Counter({first: 1, second: 5})
    there = next(
        there for snapshot, there in history.present(carried=True) if snapshot.name == "HEAD"
    )
    assert there[: history.origins[0].size].tolist() == [1, 1, 1, 1]
    assert not history.removals


def test_a_change_of_meaning_is_no_formatting(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit({"a.py": "x = 1\n"})
    repository.commit({"a.py": "x = 2\n"})
    repo = Git(repository.folder)
    assert [
        removal.lines.tolist() for removal in trace_lines(repo, find_releases(repo)).removals
    ] == [[0]]


def test_a_moved_tag_is_read_again(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    first = repository.commit({"a": "1\n"})
    second = repository.commit({"a": "1\n2\n"}, day=1)
    repository.tag("v1", second)
    repo = Git(repository.folder)
    history = trace_lines(repo, find_releases(repo))
    git(repository.folder, "tag", "-f", "v1", first)
    assert counts(trace_lines(repo, find_releases(repo), history))["v1"] == Counter({first: 1})


def test_unusual_names_are_read(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    only = repository.commit({"tab\\there.py": "1\n", 'é \\"quoted\\".py': "1\n2\n", "*.py": "3\n"})
    repo = Git(repository.folder)
    assert counts(trace_lines(repo, find_releases(repo)))["HEAD"] == Counter({only: 4})


def test_what_cannot_be_followed_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        Git(tmp_path / "nowhere")
    (tmp_path / "plain").mkdir()
    with pytest.raises(NotFoundError, match="not a git repository"):
        Git(tmp_path / "plain")
    repository = Repository(tmp_path / "r")
    with pytest.raises(InputError, match="no commit"):
        find_releases(Git(repository.folder))
    repository.commit({"a": "1\n"})
    repository.commit({"a": "2\n"})
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", f"file://{repository.folder}", tmp_path / "shallow"],
        check=True,
        capture_output=True,
    )
    with pytest.raises(InputError, match="unshallow"):
        find_releases(Git(tmp_path / "shallow"))
    repository.tag("v1")
    with pytest.raises(InputError, match=r"no tag .* fits 'x\*'; it has v1"):
        find_releases(Git(repository.folder), "x*")


def test_a_kept_history_of_another_repository_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    one, other = Repository(tmp_path / "one"), Repository(tmp_path / "other")
    one.commit({"a": "1\n"})
    other.commit({"b": "1\n"})
    repo = Git(one.folder)
    history_cache.save_history(trace_lines(repo, find_releases(repo)), tmp_path / "kept")
    with pytest.raises(InputError, match="another repository"):
        history_cache.load_history(tmp_path / "kept", Git(other.folder))
    (tmp_path / "kept").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="delete it"):
        history_cache.load_history(tmp_path / "kept", repo)


def test_a_missing_object_stops_with_gits_reason(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    repository.commit({"a": "1\n"})
    git(repository.folder, "unpack-objects", "-q", stdin=b"") if False else None
    blob = git(repository.folder, "rev-parse", "HEAD:a").strip()
    pack = next((repository.folder / ".git" / "objects").glob("pack/*.pack"), None)
    if pack is not None:
        content = pack.read_bytes()
        for file in pack.parent.iterdir():
            file.chmod(0o600)
            file.unlink()
        git(repository.folder, "unpack-objects", "-q", stdin=content)
    (repository.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(InputError, match="git log failed"):
        trace_lines(
            Git(repository.folder), {"HEAD": git(repository.folder, "rev-parse", "HEAD").strip()}
        )
