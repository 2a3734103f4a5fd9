"""What a verification sees beside the comparison, read on the other connection, and how all of it is kept."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.checks import Check
from migration.comparison import unknown_references
from migration.conservation import ByPlace, Conserved, Stock, read_moved, read_stock
from migration.explanations import Explanation, explain_movements
from migration.facts import Facts, read_facts


@dataclass(frozen=True)
class Seen:
    """`broken` are the columns of batches that refer to what is not there."""

    stock: Stock
    moved: ByPlace
    facts: Facts
    broken: frozenset[str]
    explanations: Sequence[Explanation]


async def look(connection: AsyncConnection, shape: Shape, company: str | None) -> Seen:
    """All that can be read before it is known which items want a closer look."""
    stock = await read_stock(connection, shape, company)
    broken = await unknown_references(connection, shape)
    return Seen(
        stock,
        await read_moved(connection, shape, company),
        await read_facts(connection, shape, company),
        frozenset({"itemId", *broken} if stock.orphans else broken),
        await explain_movements(connection, shape, company),
    )


async def keep(
    connection: AsyncConnection,
    verification_id: int,
    checks: Sequence[Check],
    conserved: Sequence[Conserved],
    explanations: Sequence[Explanation],
) -> None:
    for table, rows in (
        (tables.verification_check, [vars(check) for check in checks]),
        (tables.verification_conservation, [one.row() for one in conserved]),
    ):
        numbered = [{"verification_id": verification_id, "position": at, **row} for at, row in enumerate(rows)]
        if numbered:
            await connection.execute(insert(table), numbered)
    if explanations:
        rows = [{"verification_id": verification_id, **asdict(one)} for one in explanations]
        await connection.execute(insert(tables.verification_explanation), rows)
