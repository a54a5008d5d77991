"""A training method is one module: listed and explained without torch, also from other packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upshot.errors import ConfigError, InputError
from upshot.policy.methods import METHODS, load_method, method_names, methods
from upshot.policy.recipe import Recipe

TOY = """
from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from upshot.policy.methods.method import Method


class ToyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    times: Annotated[int, Meta(description="how often; 1")] = 1


def load_config():
    from transformers import TrainingArguments

    return TrainingArguments


def fit(job):
    from upshot.policy.trainer import make_list_trainer

    rows = [{"n": job.read_options(ToyOptions).times} for _ in job.need_examples()]

    def loss(model, batch):
        return sum(parameter.sum() for parameter in model.parameters()) * batch[0]["n"] * 0

    return job.run(make_list_trainer(job, rows, loss))


METHOD = Method(
    name="A toy",
    does="Nothing.",
    choose="Never.",
    needs="examples.",
    steps="no",
    source="this test",
    load_config=load_config,
    fit=fit,
    option_type=ToyOptions,
)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Another package, installed in a folder, that adds a method through an entry point."""
    site = tmp_path / "site"
    info = site / "toy_method-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-method\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[upshot.methods]\ntoy = toy_method\nbroken = json\nsft = toy_method\n"
    )
    (site / "toy_method.py").write_text(TOY)
    return site


def run(*arguments: str, path: Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line, or code, with a folder before the installed packages."""
    command = ["-c", code] if code is not None else ["-m", "upshot", *arguments]
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(path),
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
        },
    )


def test_another_packages_method_is_explained(package: Path) -> None:
    done = run("train", "policy", "--explain", "toy", path=package)
    assert done.returncode == 0, done.stderr
    assert "A toy (toy)" in done.stdout
    assert "times: how often; 1" in done.stdout
    refused = run("train", "policy", "--explain", "tay", path=package)
    assert refused.returncode == 2
    assert "toy" in refused.stderr


def test_another_packages_method_trains(package: Path, base: str, tmp_path: Path) -> None:
    data = tmp_path / "examples.jsonl"
    row = {"prompt": "hi", "completion": "yes", "score": 1.0, "user": "u"}
    data.write_text("\n".join([json.dumps(row)] * 4))
    recipe = tmp_path / "toy.toml"
    recipe.write_text("[trainer]\nmax_steps = 2\n[draw]\nmax_tokens = 4\n[options]\ntimes = 2\n")
    out = tmp_path / "policy"
    command = ["train", "policy", str(data), "--method", "toy", "--model", base, "-o", str(out)]
    done = run(*command, "--recipe", str(recipe), path=package)
    assert done.returncode == 0, done.stderr
    trained = json.loads((out / "policy.json").read_text())
    assert (trained["method"], trained["steps"]) == ("toy", 2)
    recipe.write_text("[options]\ntomes = 2\n")
    command[-1] = str(tmp_path / "other")
    refused = run(*command, "--recipe", str(recipe), path=package)
    assert refused.returncode == 2
    assert "tomes" in refused.stderr


def test_a_method_of_ours_is_one_file_and_one_line(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "src" / "upshot"
    methods_folder = tmp_path / "upshot" / "policy" / "methods"
    shutil.copytree(source, tmp_path / "upshot")
    (methods_folder / "toy.py").write_text(TOY)
    last = '    "star": "upshot.policy.methods.star",\n'
    text = (methods_folder / "__init__.py").read_text()
    assert text.count(last) == 1
    added = last + '    "toy": "upshot.policy.methods.toy",\n'
    (methods_folder / "__init__.py").write_text(text.replace(last, added))
    explained = run("train", "policy", "--explain", "toy", path=tmp_path)
    assert "A toy (toy)" in explained.stdout, explained.stderr
    assert "toy" in run("train", "policy", "--help", path=tmp_path).stdout


def test_an_entry_point_without_a_method_is_refused_and_none_replaces_ours(package: Path) -> None:
    code = (
        "from upshot.errors import ConfigError\n"
        "from upshot.policy.methods import load_method, method_names\n"
        "assert method_names()[-2:] == ('broken', 'toy'), method_names()\n"
        "assert load_method('sft').name.startswith('Supervised')\n"
        "try:\n    load_method('broken')\nexcept ConfigError as error:\n    print(error)\n"
    )
    done = run(path=package, code=code)
    assert done.returncode == 0, done.stderr
    assert "leads to no METHOD" in done.stdout


def test_methods_are_listed_and_explained_without_torch() -> None:
    code = (
        "import sys\nfrom upshot.policy.methods import methods\n"
        "assert all(method.options is not None for method in methods().values())\n"
        "print({'torch', 'transformers', 'trl', 'scipy'} & set(sys.modules))"
    )
    done = run(path=Path(), code=code)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


@pytest.mark.parametrize("name", list(METHODS))
def test_every_option_is_described(name: str) -> None:
    method = load_method(name)
    assert all(method.options.values())
    assert method.option_type.__struct_fields__ == tuple(method.options)
    assert method.does
    assert method.source


def test_names_and_methods_are_one_list() -> None:
    assert tuple(methods()) == method_names()
    with pytest.raises(InputError, match="there are sft"):
        load_method("magic")
    with pytest.raises(ConfigError, match="there are sft"):
        Recipe("base", "magic")
