"""Pairs and examples in the shapes that trainers read as they are: one function a trainer, each row
a dictionary.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from upshot.errors import InputError
from upshot.io import json_lines
from upshot.records import Example, Preference, Turn

Row = dict[str, Any]


def messages(turns: Iterable[Turn]) -> list[dict[str, str]]:
    """Messages as the libraries take them."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def jsonl(row: Preference | Example) -> Row:
    """Our own interchange format, which TRL reads too."""
    return msgspec.to_builtins(row)


def trl(row: Preference) -> Row:
    """TRL, preference with an explicit prompt (RewardTrainer, DPOTrainer); margin and weight beside
    it.
    """
    return {
        "prompt": messages(row.prompt),
        "chosen": messages(row.chosen),
        "rejected": messages(row.rejected),
        "margin": row.margin,
        "weight": row.weight,
    }


def kto(row: Example) -> Row:
    """TRL, unpaired (KTOTrainer): good where the score is at least one half."""
    return {
        "prompt": messages(row.prompt),
        "completion": messages(row.completion),
        "label": row.score >= 0.5,
        "weight": row.weight,
    }


def sft(row: Example) -> Row:
    """TRL, SFT: whole conversations; `train` says which messages are imitated, for trainers that
    mask.
    """
    turns = [*row.prompt, *row.completion]
    train = row.train or (False,) * len(row.prompt) + (True,) * len(row.completion)
    return {
        "messages": messages(turns),
        "train": list(train),
        "weight": row.weight,
        "score": row.score,
        "users": list(row.source.users),
    }


def openrlhf(row: Preference) -> Row:
    """OpenRLHF: whole conversations under `chosen` and `rejected` (`--apply_chat_template`)."""
    prompt = messages(row.prompt)
    return {
        "chosen": prompt + messages(row.chosen),
        "rejected": prompt + messages(row.rejected),
        "margin": row.margin,
    }


def verl(row: Example) -> Row:
    """verl: a prompt with its reference answer, for Parquet."""
    return {
        "data_source": f"upshot/{row.source.kind}",
        "prompt": messages(row.prompt),
        "ability": "chat",
        "reward_model": {
            "style": "model",
            "ground_truth": "\n".join(turn.content for turn in row.completion),
        },
        "extra_info": {"score": row.score, "weight": row.weight, "split": row.source.split},
    }


_SHARE_GPT = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


def llamafactory(row: Preference) -> Row:
    """LLaMA-Factory: ShareGPT ranking; `dataset_info.json` is written beside it."""

    def said(turns: Iterable[Turn]) -> list[dict[str, str]]:
        return [{"from": _SHARE_GPT[turn.role], "value": turn.content} for turn in turns]

    return {
        "conversations": said(row.prompt),
        "chosen": said(row.chosen)[-1],
        "rejected": said(row.rejected)[-1],
    }


PAIRED: Mapping[str, Callable[[Preference], Row]] = {
    "jsonl": jsonl,
    "parquet": jsonl,
    "trl": trl,
    "openrlhf": openrlhf,
    "llamafactory": llamafactory,
}
UNPAIRED: Mapping[str, Callable[[Example], Row]] = {"kto": kto, "verl": verl, "examples": jsonl}
MASKED: Mapping[str, Callable[[Example], Row]] = {"sft": sft}
FORMATS = (*PAIRED, *UNPAIRED, *MASKED)


def write(rows: Iterable[Row], path: str | os.PathLike[str], format: str) -> int:
    """Write rows to one file, whole or not at all: Parquet for `parquet` and `verl` or a name that
    ends so, else JSON lines.

    Raises:
        InputError: Parquet was asked for on standard output.
    """
    path = os.fspath(path)
    if format in ("parquet", "verl") or path.endswith(".parquet"):
        if path == "-":
            raise InputError(
                f"could not write {format} to standard output: it is Parquet; name a file with -o"
            )
        return _parquet(rows, Path(path))
    count = json_lines.write(rows, path)
    if format == "llamafactory" and path != "-":
        _dataset_info(Path(path))
    return count


def _parquet(rows: Iterable[Row], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    draft = path.with_name(path.name + ".part")
    count = 0
    writer: pq.ParquetWriter | None = None
    for batch in _batches(rows, 5_000):
        table = pa.Table.from_pylist(batch, schema=writer.schema if writer else None)
        writer = writer or pq.ParquetWriter(draft, table.schema, compression="zstd")
        writer.write_table(table)
        count += len(batch)
    if writer is None:
        pq.write_table(pa.table({}), draft)
    else:
        writer.close()
    draft.replace(path)
    return count


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _dataset_info(path: Path) -> None:
    """Add the file to LLaMA-Factory's register."""
    register = path.with_name("dataset_info.json")
    known = json.loads(register.read_text("utf-8")) if register.is_file() else {}
    known[path.stem] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    }
    register.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
