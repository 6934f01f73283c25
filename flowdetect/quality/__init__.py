"""How good drawn (synthetic, augmented) rows are, beside real ones. Takes tables, not models."""

from flowdetect.quality._compare import compare_columns, compare_tables

__all__ = ["compare_columns", "compare_tables"]
