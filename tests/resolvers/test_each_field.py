"""Every field by itself answers what it answers among all others: none leans on its neighbours."""

from collections.abc import Iterator

from graphql import GraphQLObjectType, get_named_type

from migration.read_difference import Difference, keep_differences
from schema import build_schema
from tests.graphql_client import Client, client_of
from tests.migration.support import engine_on, verified

TYPES = {
    name: type_
    for name, type_ in build_schema()._schema.type_map.items()  # noqa: SLF001 - graphql-core's schema has no public name
    if isinstance(type_, GraphQLObjectType) and not name.startswith("__")
}

# From the root to an object of each type, and the place of its selection.
PATHS = {
    "Item": '{ item(id: "mug") { %s } }',
    "ItemConnection": "{ items(first: 2) { %s } }",
    "ItemEdge": "{ items(first: 2) { edges { %s } } }",
    "PageInfo": "{ items(first: 2) { pageInfo { %s } } }",
    "StockBatch": '{ batch(id: "mug-2") { %s } }',
    "StockBatchConnection": '{ item(id: "mug") { batches(first: 2) { %s } } }',
    "StockBatchEdge": '{ item(id: "mug") { batches(first: 2) { edges { %s } } } }',
    "MovementConnection": '{ batch(id: "mug-2") { movements(first: 1) { %s } } }',
    "MovementEdge": '{ batch(id: "mug-2") { movements(first: 1) { edges { %s } } } }',
    "Movement": '{ batch(id: "mug-2") { movements(first: 1) { edges { node { %s } } } } }',
    "StockSummary": "{ stockSummary { %s } }",
    "Location": "{ locations { %s } }",
    "User": '{ batch(id: "mug-2") { assignedUser { %s } } }',
    "LegacyStock": '{ item(id: "mug") { legacy { %s } } }',
    "StatusQuantity": "{ stockSummary { quantityByStatus { %s } } }",
    "LocationQuantity": '{ item(id: "mug") { quantityByLocation { %s } } }',
    "Verification": '{ verification(id: "2") { %s } }',
    "VerificationConnection": "{ verifications(first: 1) { %s } }",
    "VerificationEdge": "{ verifications(first: 1) { edges { %s } } }",
    "VerificationCheck": '{ verification(id: "2") { checks { %s } } }',
    "Conservation": '{ verification(id: "2") { conservation { %s } } }',
    "StockAmount": '{ verification(id: "2") { conservation { copied { %s } } } }',
    "Explanation": '{ verification(id: "2") { explanations { %s } } }',
    "MismatchConnection": '{ verification(id: "2") { mismatches(first: 1) { %s } } }',
    "MismatchEdge": '{ verification(id: "2") { mismatches(first: 1) { edges { %s } } } }',
    "Mismatch": '{ verification(id: "2") { mismatches { edges { node { %s } } } } }',
    "MismatchEvidence": '{ verification(id: "2") { mismatches { edges { node { evidence { %s } } } } } }',
    "Migration": "{ migration { %s } }",
    "MigrationRun": "{ migration { run { %s } } }",
    "ReadDifferenceConnection": "{ migration { readDifferences { %s } } }",
    "ReadDifferenceEdge": "{ migration { readDifferences { edges { %s } } } }",
    "ReadDifference": "{ migration { readDifferences { edges { node { %s } } } } }",
    "Gate": "{ migration { gates { %s } } }",
    "ScheduleStage": "{ migration { schedule { %s } } }",
    "ActConnection": "{ migration { history(first: 1) { %s } } }",
    "ActEdge": "{ migration { history(first: 1) { edges { %s } } } }",
    "Act": "{ migration { history(first: 1) { edges { node { %s } } } } }",
}
NOT_READ = {
    *("Query", "Mutation", "CreateBatchPayload", "RunVerificationPayload", "MigrationPayload", "UserError"),
    *("StartMigrationPayload", "CutOverItemsPayload", "RefusedItem"),
    *("Subscription", "MigrationProgress", "VerificationProgress"),
}


def test_every_type_is_reached() -> None:
    assert set(TYPES) == set(PATHS) | NOT_READ


def minimal(type_: GraphQLObjectType, name: str) -> str:
    """The field with the least that can be selected of it: the first leaf of each object on the way."""
    of = get_named_type(type_.fields[name].type)
    if not isinstance(of, GraphQLObjectType):
        return name
    leaf = next((n for n, f in of.fields.items() if not isinstance(get_named_type(f.type), GraphQLObjectType)), None)
    return f"{name} {{ {leaf or minimal(of, next(iter(of.fields)))} }}"


def values(data: object, key: str) -> Iterator[object]:
    """Whatever is under a key, anywhere."""
    if isinstance(data, list):
        for part in data:
            yield from values(part, key)
    elif isinstance(data, dict):
        for name, part in data.items():
            if name == key:
                yield part
            else:
                yield from values(part, key)


async def compare(client: Client, type_name: str) -> None:
    type_ = TYPES[type_name]
    selections = {f"only_{name}": f"only_{name}: {minimal(type_, name)}" for name in type_.fields}
    together = await client.ask(PATHS[type_name] % " ".join(selections.values()))
    for key, selection in selections.items():
        found = list(values(together, key))
        assert found, f"{selection} of {type_name} was not reached"
        assert list(values(await client.ask(PATHS[type_name] % selection), key)) == found, selection


async def test_a_field_alone_is_what_it_is_among_others(batches_url: str) -> None:
    await verified(batches_url)
    async with engine_on(batches_url) as engine, engine.begin() as connection:
        await keep_differences(connection, [Difference("mug", "RECEIVED_SINCE", 10, 22)])
    async with client_of(batches_url) as client:
        for type_name in PATHS:
            await compare(client, type_name)


async def test_it_is_so_too_where_there_are_no_rows(database_url: str) -> None:
    async with client_of(database_url) as client:
        for type_name in ("ItemConnection", "StockSummary", "VerificationConnection", "Migration"):
            await compare(client, type_name)
