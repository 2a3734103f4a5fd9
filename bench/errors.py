"""What can keep a measurement from being made."""

from db.errors import StockshiftError


class BenchError(StockshiftError):
    """The benchmark cannot run."""


class Missing(StockshiftError):
    """One of those who are to be measured cannot run here; the others are measured without it."""
