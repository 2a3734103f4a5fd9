"""The indexes that pages are read by, and the sort keys that the ones on `items` are of.

Those on `stock_batches` are of plain columns, under the names that Prisma gives such indexes, so that a shop can put
them in its ORM's schema. What they cost and what serves what: docs/decisions/0011.
"""

from sqlalchemy import ColumnElement, FromClause, Index, Text, func, literal_column

from db import tables

EVER: ColumnElement[object] = literal_column("timestamp '-infinity'")
"""When an item came into being of which nobody wrote it down."""
NAME_CHARACTERS = 200
"""An index cannot have entries of more than some 2,700 bytes, so one of whole names would refuse an item's name."""


def by_name(item: FromClause) -> ColumnElement[str]:
    """The sort key of an item's name."""
    return func.left(item.c.name, literal_column(str(NAME_CHARACTERS)), type_=Text)


def by_creation(item: FromClause) -> ColumnElement[object]:
    """The sort key of an item's creation."""
    return func.coalesce(item.c.createdAt, EVER, type_=item.c.createdAt.type)


_batch = tables.stock_batches.c
_item = tables.items.c

BATCHES_OF_AN_ITEM = {
    "an item's batches, in the order of their pages": Index(
        "stock_batches_itemId_createdAt_id_idx", _batch.itemId, _batch.createdAt, _batch.id
    ),
}
BATCH_INDEXES = BATCHES_OF_AN_ITEM | {
    "which items have batches of a status": Index("stock_batches_status_itemId_idx", _batch.status, _batch.itemId),
    "which items have batches at a location": Index(
        "stock_batches_locationId_itemId_idx", _batch.locationId, _batch.itemId
    ),
    "which batches a deleted user leaves": Index("stock_batches_assignedUserId_idx", _batch.assignedUserId),
}

ITEM_INDEXES = {
    "pages of items by name": Index("stockshift_items_name_idx", by_name(tables.items), _item.id),
    "pages of items by creation": Index("stockshift_items_created_idx", by_creation(tables.items), _item.id),
    "pages of a company's items by name": Index(
        "stockshift_items_company_name_idx", _item.companyId, by_name(tables.items), _item.id
    ),
    "pages of a company's items by creation": Index(
        "stockshift_items_company_created_idx", _item.companyId, by_creation(tables.items), _item.id
    ),
    "items of a status, where batches do not say": Index("stockshift_items_status_idx", _item.status),
    "items at a location, where batches do not say": Index("stockshift_items_location_idx", _item.locationId),
}
