"""The tables, in Delta Lake. No other package touches the files of the lake."""

from upshot.lake.check import Damage, LakeCheck, check_lake, has_tables
from upshot.lake.checksums import require_whole_logs
from upshot.lake.erase import ErasureProof, count_rows_of, erase_user, has_traces_of
from upshot.lake.erased import mark_of, read_erased, without_erased, write_mark
from upshot.lake.exports import recorded_export, users_in
from upshot.lake.models import (
    LakeModel,
    load_contents,
    load_model,
    load_models,
    model_version,
    store_model,
)
from upshot.lake.repair import repair_lake
from upshot.lake.tables import Lake, bucket_of
from upshot.lake.upkeep import (
    Compaction,
    LakeStats,
    compact_lake,
    measure_lake,
    rebucket_lake,
    tend_lake,
)

__all__ = [
    "Compaction",
    "Damage",
    "ErasureProof",
    "Lake",
    "LakeCheck",
    "LakeModel",
    "LakeStats",
    "bucket_of",
    "check_lake",
    "compact_lake",
    "count_rows_of",
    "erase_user",
    "has_tables",
    "has_traces_of",
    "load_contents",
    "load_model",
    "load_models",
    "mark_of",
    "measure_lake",
    "model_version",
    "read_erased",
    "rebucket_lake",
    "recorded_export",
    "repair_lake",
    "require_whole_logs",
    "store_model",
    "tend_lake",
    "users_in",
    "without_erased",
    "write_mark",
]
