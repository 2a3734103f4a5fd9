"""The root of every error that is meant for a person.

The docstring of a class is its default message: it says what was wrong and what to do. An error that knows the
value which was wrong is raised with a message of its own.
"""

import inspect


class StockshiftError(Exception):
    """Something was asked for that cannot be done."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))

    @property
    def message(self) -> str:
        return str(self)
