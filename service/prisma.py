"""What a shop adds to its schema.prisma, so that its ORM knows the batches; made of the tables themselves.

What Prisma does by itself in a client (`uuid()`, `@updatedAt`) makes no difference to the database.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Column, DefaultClause, Double, Index, Integer, Text

from db import tables
from db.indexes import BATCH_INDEXES, ITEM_INDEXES

MODELS = {tables.items: "Item", tables.locations: "Location", tables.users: "User"}
TYPES = {Text: "String", Integer: "Int", Double: "Float", Boolean: "Boolean"}
DEFAULTS = {"CURRENT_TIMESTAMP": "now()"}
ACTIONS = {"CASCADE": "Cascade", "SET NULL": "SetNull"}
BY_CLIENT = {"id": "@default(uuid())", "updatedAt": "@updatedAt"}

SNIPPET = """\
// Stockshift's batches, for your schema.prisma. With this in it, `prisma db push` finds a database that
// `stockshift migrate` migrated in sync; without it, it wants to drop the table and the flag. With Prisma Migrate, make
// a migration of it and, wherever Stockshift migrates, mark it as applied (`prisma migrate resolve --applied NAME`).
//
// Leave out an index that you have under another name: then Stockshift made none.

{batch}

// Into your own models, whatever you call them and their fields:
//
{additions}
//
// These indexes on "items" are of expressions, which Prisma cannot write down; it leaves them alone:
{unseen}
"""


class Field(NamedTuple):
    name: str
    type: str
    attributes: str = ""


def prisma_snippet() -> str:
    """A model, and in comments what goes into the shop's own models."""
    return SNIPPET.format(
        batch=_block("StockBatch", _batch_fields(), [*map(_index, BATCH_INDEXES.values()), '@@map("stock_batches")']),
        additions=_commented("\n\n".join(_additions())),
        unseen=_commented("\n".join(str(one.name) for one in ITEM_INDEXES.values() if not _is_plain(one))),
    )


def _batch_fields() -> list[Field]:
    fields: list[Field] = [_field(column) for column in tables.stock_batches.columns]
    for column, (target, on_delete) in tables.STOCK_BATCHES_REFERENCES.items():
        optional = "?" if tables.stock_batches.c[column].nullable else ""
        relation = f"fields: [{column}], references: [id], onDelete: {ACTIONS[on_delete]}, onUpdate: Cascade"
        name = f"stock_batches_{column}_fkey"
        attributes = f'@relation({relation}, map: "{name}")'
        fields.append(Field(column.removesuffix("Id"), MODELS[target] + optional, attributes))
    return fields


def _additions() -> Iterable[str]:
    batches = Field("batches", "StockBatch[]")
    indexes = [_index(one) for one in ITEM_INDEXES.values() if _is_plain(one)]
    yield _block(MODELS[tables.items], [_field(tables.USE_BATCH_SYSTEM), batches], indexes)
    yield _block(MODELS[tables.locations], [batches])
    yield _block(MODELS[tables.users], [batches])


def _field(column: "Column[Any]") -> Field:
    attributes = []
    if column.primary_key:
        attributes.append(f'@id(map: "{tables.stock_batches.primary_key.name}")')
    if isinstance(column.server_default, DefaultClause):
        default = str(column.server_default.arg).strip("'")
        attributes.append(f"@default({DEFAULTS.get(default, default)})")
    if column.name in BY_CLIENT:
        attributes.append(BY_CLIENT[column.name])
    return Field(column.name, _type(column) + ("?" if column.nullable else ""), " ".join(attributes))


def _type(column: "Column[Any]") -> str:
    if column.type is tables.STATUS:
        return "Status"
    if column.type is tables.WALL_CLOCK:
        return "DateTime"  # Prisma's own is TIMESTAMP(3)
    return TYPES[type(column.type)]


def _is_plain(index: Index) -> bool:
    return all(isinstance(part, Column) for part in index.expressions)


def _index(index: Index) -> str:
    columns = ", ".join(part.name for part in index.expressions if isinstance(part, Column))
    return f'@@index([{columns}], map: "{index.name}")'


def _block(name: str, fields: list[Field], rest: Sequence[str] = ()) -> str:
    """A model, laid out as `prisma format` does."""
    names, types = (max(len(field[part]) for field in fields) for part in (0, 1))
    lines = [f"  {name.ljust(names)} {type_.ljust(types)} {attributes}".rstrip() for name, type_, attributes in fields]
    below = ["", *[f"  {line}" for line in rest]] if rest else []
    return "\n".join([f"model {name} {{", *lines, *below, "}"])


def _commented(text: str) -> str:
    return "\n".join(f"//   {line}".rstrip() for line in text.splitlines())
