"""The snippet for a shop's schema.prisma says of a migrated database what its catalog says."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.prisma import prisma_snippet
from tests.migration.support import migrate
from tests.service.processes import stockshift
from tests.support import Connection, psql

TYPES = {
    "text": "String",
    "integer": "Int",
    "double precision": "Float",
    "boolean": "Boolean",
    "timestamp(3) without time zone": "DateTime",
    '"Status"': "Status",
}
DEFAULTS = {
    "0": "0",
    "false": "false",
    "CURRENT_TIMESTAMP": "now()",
    "'ToOrder'::\"Status\"": "ToOrder",
}
ACTIONS = {"c": "Cascade", "n": "SetNull"}
MODELS = {"items": "Item", "locations": "Location", "users": "User"}

# What Prisma's client does by itself, and the database knows nothing of.
CLIENT = re.compile(r"@default\(uuid\(\)\)|@updatedAt")


def model(name: str) -> list[str]:
    """The lines of a model, in comments or not, without their layout."""
    found = re.search(rf"^(?://   )?model {name} {{\n(.*?)^(?://   )?}}", prisma_snippet(), re.DOTALL | re.MULTILINE)
    assert found
    lines = [" ".join(CLIENT.sub("", line.removeprefix("//")).split()) for line in found[1].splitlines()]
    return [line for line in lines if line]


def fields(name: str) -> Mapping[str, str]:
    return dict(line.split(" ", 1) for line in model(name) if not line.startswith("@@"))


@pytest.fixture
async def migrated_url(shop_url: str) -> str:
    await migrate(shop_url)
    return shop_url


async def columns(connection: Connection, table: str) -> dict[str, str]:
    """As Prisma would write them: the type, ? if it may be NULL, the default."""
    rows = await connection.fetch(
        """
        SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS required,
               pg_get_expr(adbin, adrelid) AS otherwise
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
        """,
        table,
    )
    return {
        row["name"]: TYPES[row["type"]]
        + ("" if row["required"] else "?")
        + (f" @default({DEFAULTS[row['otherwise']]})" if row["otherwise"] else "")
        for row in rows
    }


async def constraints(connection: Connection, kind: str) -> list[Any]:
    return await connection.fetch(
        """
        SELECT conname AS name, a.attname AS column, confrelid::regclass::text AS target,
               confdeltype::text AS deleted, confupdtype::text AS updated
        FROM pg_constraint JOIN pg_attribute a ON attrelid = conrelid AND conkey = ARRAY[attnum]
        WHERE conrelid = 'stock_batches'::regclass AND contype::text = $1
        """,
        kind,
    )


async def indexes(connection: Connection, table: str) -> tuple[set[str], set[str]]:
    """Those of plain columns as Prisma would write them, and the names of those of expressions."""
    rows = await connection.fetch(
        """
        SELECT c.relname AS name, 0 = ANY (indkey) AS of_expressions,
               ARRAY(SELECT a.attname::text FROM unnest(indkey) WITH ORDINALITY AS key (attnum, position)
                     JOIN pg_attribute a ON attrelid = indrelid AND a.attnum = key.attnum ORDER BY position) AS columns
        FROM pg_index JOIN pg_class c ON c.oid = indexrelid
        WHERE indrelid = $1::text::regclass AND NOT indisprimary
        """,
        table,
    )
    plain = {
        f'@@index([{", ".join(row["columns"])}], map: "{row["name"]}")' for row in rows if not row["of_expressions"]
    }
    return plain, {row["name"] for row in rows if row["of_expressions"]}


async def test_the_batches_model_has_every_column_and_key_of_the_table(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        expected = await columns(connection, "stock_batches")
        (primary,) = await constraints(connection, "p")
        expected[primary["column"]] += f' @id(map: "{primary["name"]}")'
        for key in await constraints(connection, "f"):
            optional = "?" if "?" in expected[key["column"]] else ""
            expected[key["column"].removesuffix("Id")] = (
                f"{MODELS[key['target']]}{optional} @relation(fields: [{key['column']}], references: [id],"
                f' onDelete: {ACTIONS[key["deleted"]]}, onUpdate: {ACTIONS[key["updated"]]}, map: "{key["name"]}")'
            )
    assert fields("StockBatch") == expected


async def test_the_batches_model_has_every_index_of_the_table(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        plain, of_expressions = await indexes(connection, "stock_batches")
    assert {line for line in model("StockBatch") if line.startswith("@@")} == {*plain, '@@map("stock_batches")'}
    assert not of_expressions


async def test_items_get_the_flag_and_their_indexes_and_those_that_prisma_cannot_say_are_named(
    shop_url: str,
) -> None:
    async with psql(shop_url) as connection:
        before = await indexes(connection, "items")
        await migrate(shop_url)
        plain, of_expressions = await indexes(connection, "items")
        flag = (await columns(connection, "items"))["useBatchSystem"]
    assert before == (set(), set())
    assert fields("Item") == {"useBatchSystem": flag, "batches": "StockBatch[]"}
    assert {line for line in model("Item") if line.startswith("@@")} == plain
    named = prisma_snippet().partition("it leaves them alone:\n")[2]
    assert {line.removeprefix("//").strip() for line in named.splitlines()} == of_expressions


def test_every_relation_has_its_way_back() -> None:
    """Prisma refuses a schema in which one has none."""
    for name in MODELS.values():
        assert fields(name)["batches"] == "StockBatch[]"


def test_it_is_laid_out_as_prisma_format_does() -> None:
    """Types and attributes of neighbouring fields begin in the same column, and no line ends in a space."""
    lines = prisma_snippet().splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    begin = lines.index("model StockBatch {") + 1
    rows = lines[begin : lines.index("", begin)]
    assert len({re.search(r"(?<= )[A-Z]", row).start() for row in rows if row}) == 1  # type: ignore[union-attr]
    assert len({row.index("@") for row in rows if "@" in row}) == 1


def test_the_command_prints_it_and_needs_no_database(tmp_path: Path) -> None:
    done = stockshift("schema", "--prisma", cwd=tmp_path)
    assert done.stdout == prisma_snippet()
    assert (done.returncode, done.stderr) == (0, "")
