"""The tables, in Delta Lake. No other package touches the files of the lake."""

from upshot.lake.erase import ErasureProof, erase_rows
from upshot.lake.tables import Lake, bucket_of

__all__ = ["ErasureProof", "Lake", "bucket_of", "erase_rows"]
