"""Our SQL files: statements, each of which, and nothing else, ends a line with a semicolon."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "sql"


def statements(file: str) -> list[str]:
    parts = re.split(r";\n", (FOLDER / file).read_text(encoding="utf-8"))
    return [part.strip() for part in parts if part.strip()]


def page(size: int) -> str:
    """The floor's statement of a page of that size."""
    (statement,) = statements("page.sql")
    return statement.replace(":size", str(size))
