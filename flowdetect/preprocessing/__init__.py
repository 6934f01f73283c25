"""Tables as matrices of values and codes, invertibly, with the log-determinant."""

from flowdetect.preprocessing._schema import ColumnSchema, Storage, TableSchema, ValueScale
from flowdetect.preprocessing._table import TableEncoder

__all__ = ["ColumnSchema", "Storage", "TableEncoder", "TableSchema", "ValueScale"]
