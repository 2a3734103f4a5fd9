"""Whether the accounts, the tables, the movements, the records and the answers agree, exactly; each disagreement as a
line that begins with where it was found."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from db import tables
from migration.verify import verify
from tests.graphql_client import client_of
from tests.migration.support import engine_on
from tests.online.accounts import LEGACY_COLUMNS, Account, Books, Row, as_json
from tests.online.fire import Fire
from tests.online.shop import STATUSES, legacy_rows
from tests.support import Connection, psql

Value = TypeVar("Value")
LISTED = 40

ITEMS = "items"
OPENING = "opening batches"
BATCHES = "batches"
MOVEMENTS = "movements"
WRITES = "legacy writes"
LEDGER = "copy ledger"
REPORT = "verification"
ANSWERS = "answers"
MEANWHILE = "answers meanwhile"

# By batch, and by item: what was copied, what moved, what is there.
MOVED = """
SELECT id, sum(copied)::bigint AS copied, sum(moved)::bigint AS moved, sum(present)::bigint AS present
FROM (
    SELECT {kind}_id AS id, coalesce((original ->> 'quantityInStock')::bigint, 0) AS copied, 0 AS moved, 0 AS present
    FROM stockshift.copy_ledger
    UNION ALL SELECT {kind}_id, 0, delta, 0 FROM stockshift.movement
    UNION ALL SELECT {id}, 0, 0, quantity FROM stock_batches
) AS every
GROUP BY id HAVING sum(copied) + sum(moved) <> sum(present)
"""
MOVED_BY = {"batch": MOVED.format(kind="batch", id="id"), "item": MOVED.format(kind="item", id='"itemId"')}

QUESTION = """
query ($after: String) {
  items(first: 200, after: $after) {
    edges { node {
      id totalQuantity statuses usingBatchSystem locations { id } legacy { quantityInStock status location { id } }
    } }
    pageInfo { hasNextPage endCursor }
    totalCount
  }
}
"""


async def disagreements(fire: Fire, *, migrated: bool = True) -> list[str]:
    """After the writers ended. Not `migrated`: only the shop's own table is looked at."""
    books = fire.books()
    async with psql(fire.url) as connection:
        found = [f"{MEANWHILE}: {answer}" for answer in fire.wrong_answers]
        found += _compared(ITEMS, books.items, await legacy_rows(connection))
        if not migrated:
            return found
        found += await disagreements_within(connection)
        found += await _other_batches(connection, books)
        found += await _ledger(connection, books)
        for account in fire.accounts:
            found += await _legacy_writes(connection, account)
        copied = {row[0] for row in await connection.fetch("SELECT item_id FROM stockshift.copy_ledger")}
    return [*found, *await _report(fire.url, books), *await _answers(fire.url, books, copied)]


async def disagreements_within(connection: Connection) -> list[str]:
    """Of the tables with one another, whatever was written."""
    return [*await _opening_batches(connection), *await _movements(connection)]


async def agree(fire: Fire, *, migrated: bool = True) -> None:
    found = await disagreements(fire, migrated=migrated)
    assert not found, "\n".join([f"{len(found)} disagreements with the accounts of seed {fire.seed}:", *found[:LISTED]])


def _compared(where: str, expected: Mapping[str, Value], actual: Mapping[str, Value]) -> list[str]:
    """By key."""
    return [
        f"{where}: {key} is {actual.get(key, 'not there')}, the accounts say {expected.get(key, 'not there')}"
        for key in sorted(expected.keys() | actual.keys())
        if key not in expected or key not in actual or expected[key] != actual[key]
    ]


async def _opening_batches(connection: Connection) -> list[str]:
    """R7: each equals its item's legacy columns."""
    differs = " OR ".join(
        f'b."{batch}" IS DISTINCT FROM coalesce(i."{item}", 0)'
        if batch in ("quantity", "freightCostUSD")
        else f'b."{batch}" IS DISTINCT FROM i."{item}"'
        for batch, item in tables.COMPARED_COLUMNS.items()
    )
    rows = await connection.fetch(
        f"""
        SELECT i.id, to_jsonb(b)::text AS batch, to_jsonb(i)::text AS item
        FROM stockshift.copy_ledger l JOIN items i ON i.id = l.item_id
        LEFT JOIN stock_batches b ON b.id = l.batch_id AND b."itemId" = i.id
        WHERE l.cut_over_at IS NULL AND (b.id IS NULL OR {differs}) ORDER BY 1
        """
    )
    return [f"{OPENING}: {row['id']} has {row['batch']}, and not {row['item']}" for row in rows]


async def _other_batches(connection: Connection, books: Books) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT id, "itemId", quantity, status::text, "locationId" FROM stock_batches b
        WHERE NOT EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.batch_id = b.id)
        """
    )
    return _compared(BATCHES, books.batches, {row["id"]: dict(list(row.items())[1:]) for row in rows})


async def _movements(connection: Connection) -> list[str]:
    found = []
    for kind, query in MOVED_BY.items():
        found += [
            f"{MOVEMENTS}: of {kind} {row['id']} {row['copied']} were copied, {row['moved']} moved,"
            f" {row['present']} are there"
            for row in await connection.fetch(query)
        ]
    return found


async def _ledger(connection: Connection, books: Books) -> list[str]:
    """One row an item, one opening batch an item: R14."""
    rows = await connection.fetch(
        """
        SELECT item_id FROM stockshift.copy_ledger GROUP BY item_id HAVING count(*) > 1
        UNION ALL SELECT batch_id FROM stockshift.copy_ledger GROUP BY batch_id HAVING count(*) > 1
        UNION ALL SELECT "itemId" FROM stock_batches b JOIN stockshift.copy_ledger l ON l.batch_id = b.id
        GROUP BY "itemId" HAVING count(*) > 1
        """
    )
    found = [f"{LEDGER}: {row[0]} was copied twice" for row in rows]
    copied = {row[0] for row in await connection.fetch("SELECT item_id FROM stockshift.copy_ledger")}
    return found + [f"{LEDGER}: {item_id} was not copied" for item_id in sorted(books.items.keys() - copied)]


async def _legacy_writes(connection: Connection, account: Account) -> list[str]:
    """Each write of the account is recorded once, in its order, with what it changed."""
    rows = await connection.fetch(
        "SELECT item_id, operation, before::text, after::text FROM stockshift.legacy_write WHERE application = $1"
        " ORDER BY id",
        account.application,
    )
    recorded = [(_known(row["item_id"]), row["operation"], _read(row["before"]), _read(row["after"])) for row in rows]
    written = [(one.item_id, one.operation, as_json(one.before), as_json(one.after)) for one in account.written]
    if recorded == written:
        return []
    first = next((n for n, pair in enumerate(zip(recorded, written, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(recorded), len(written)) if first is None else first
    differs = (
        f"{WRITES}: {account.application} made {len(written)}, {len(recorded)} are recorded; number {at} is"
        f" {recorded[at : at + 1]}, the account says {written[at : at + 1]}"
    )
    return [differs]


def _known(item_id: str) -> str:
    """Of an item that is gone, and whose id another one took, the number is ours alone."""
    return re.sub(r" \(deleted, .*\)", " (deleted)", item_id)


def _read(recorded: str | None) -> Row | None:
    """The legacy columns, or an id, of what was recorded: a row that was deleted is recorded whole."""
    if recorded is None:
        return None
    row: Row = json.loads(recorded)
    if not row.keys() <= {"id", *LEGACY_COLUMNS}:
        row = {name: row[name] for name in LEGACY_COLUMNS}
    return as_json(row)


async def _report(url: str, books: Books) -> list[str]:
    async with engine_on(url) as engine:
        verified = await verify(engine, requested_by="the accounts")
    found = [f"{REPORT}: {check}" for check in verified.checks if not check.passed]
    async with psql(url) as connection:
        row = await connection.fetchrow("SELECT * FROM stockshift.verification WHERE id = $1", verified.id)
    assert row is not None
    figures = ("items_checked", "items_matched", "legacy_quantity", "batch_quantity", "explained_difference")
    items, units, received = len(books.items), books.units, books.received
    expected = dict(zip(figures, (items, items, units, units + received, received), strict=True))
    return found + _compared(REPORT, expected, {name: row[name] for name in figures})


async def _answers(url: str, books: Books, copied: set[str]) -> list[str]:
    """Of `items`, field by field."""
    answered: dict[str, Any] = {}
    after = None
    async with client_of(url) as client:
        while True:
            page = (await client.ask(QUESTION, after=after))["items"]
            answered |= {edge["node"].pop("id"): edge["node"] for edge in page["edges"]}
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
    found = _compared(ANSWERS, {item_id: _expected(item_id, books, copied) for item_id in books.items}, answered)
    if page["totalCount"] != len(books.items):
        found.append(f"{ANSWERS}: {page['totalCount']} items, the accounts say {len(books.items)}")
    return found


def _expected(item_id: str, books: Books, copied: set[str]) -> Row:
    """R1 and R2, out of the accounts. An item that is copied has its legacy columns as one of its batches."""
    legacy = books.items[item_id]
    batches = [batch for batch in books.batches.values() if batch["itemId"] == item_id]
    using = item_id in copied or bool(batches)
    opening = {"quantity": legacy["quantityInStock"], "status": legacy["status"], "locationId": legacy["locationId"]}
    lines = [opening, *batches] if item_id in copied or not batches else batches
    places = {line["locationId"] for line in lines} - {None}
    place = legacy["locationId"]
    return {
        "totalQuantity": sum(line["quantity"] for line in lines),
        "statuses": sorted({line["status"] for line in lines}, key=STATUSES.index),
        "usingBatchSystem": using,
        "locations": [{"id": place_id} for place_id in sorted(places)],  # harbour before main, as their names
        "legacy": {
            "quantityInStock": legacy["quantityInStock"],
            "status": legacy["status"],
            "location": None if place is None else {"id": place},
        },
    }
