"""The tables, in Delta Lake. Nothing else touches the files of the lake."""

from upshot.lake.erase import ErasureProof, erase_rows
from upshot.lake.tables import Lake, bucket_of

__all__ = ["ErasureProof", "Lake", "bucket_of", "erase_rows"]
