"""Who may ask and change what: each root field has a least role, and nobody below it gets past."""

from itertools import product

from graphql import GraphQLObjectType, get_named_type

from resolvers.viewer import Role, Viewer
from schema import build_schema
from tests.graphql_client import client_of, web_on

LEAST = {
    "Query.item": Role.STAFF,
    "Query.items": Role.STAFF,
    "Query.batch": Role.STAFF,
    "Query.locations": Role.STAFF,
    "Query.stockSummary": Role.STAFF,
    "Query.migration": Role.MANAGER,
    "Query.verification": Role.MANAGER,
    "Query.verifications": Role.MANAGER,
    "Mutation.createBatch": Role.STAFF,
    "Mutation.runVerification": Role.ADMIN,
    "Mutation.startMigration": Role.ADMIN,
    "Mutation.pauseMigration": Role.ADMIN,
    "Mutation.resumeMigration": Role.ADMIN,
    "Mutation.cancelMigration": Role.ADMIN,
    "Mutation.setReadSource": Role.ADMIN,
    "Mutation.cutOverItems": Role.ADMIN,
    "Mutation.takeBackItems": Role.ADMIN,
    "Mutation.setWriteBack": Role.ADMIN,
    "Mutation.rollbackMigration": Role.ADMIN,
    "Mutation.undoRollback": Role.ADMIN,
    "Subscription.migrationProgress": Role.MANAGER,
    "Subscription.verificationProgress": Role.MANAGER,
}
ARGUMENTS = {
    "Query.item": '(id: "mug")',
    "Query.batch": '(id: "mug-2")',
    "Query.verification": '(id: "1")',
    "Mutation.createBatch": '(input: { itemId: "mug", quantity: 0 })',
    "Mutation.startMigration": "(input: { chunkSize: 0 })",
    "Mutation.setReadSource": "(source: AUTO)",
    "Mutation.cutOverItems": '(input: { itemIds: ["nothing"] })',
    "Mutation.takeBackItems": '(input: { itemIds: ["nothing"] })',
    "Mutation.setWriteBack": "(on: false)",
    "Mutation.rollbackMigration": '(confirm: "nothing")',
    "Mutation.undoRollback": '(confirm: "nothing")',
    "Subscription.verificationProgress": '(id: "1")',
}
SCHEMA = build_schema()._schema  # noqa: SLF001 - Strawberry has no public name for graphql-core's schema
ROOTS = {
    f"{root.name}.{name}": field
    for root in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type)
    if root is not None
    for name, field in root.fields.items()
}


def test_every_root_field_has_a_least_role() -> None:
    assert set(ROOTS) == set(LEAST)


def document(path: str) -> str:
    root, name = path.split(".")
    assert isinstance(get_named_type(ROOTS[path].type), GraphQLObjectType)
    return f"{root.lower()} {{ {name}{ARGUMENTS.get(path, '')} {{ __typename }} }}"


async def test_a_field_is_for_its_least_role_and_above(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        for path, role in product(LEAST, Role):
            answer = await client.answer(document(path), Viewer("somebody", role))
            if role >= LEAST[path]:
                assert not answer.errors, (path, role)
            else:
                assert answer.codes == ["FORBIDDEN"], (path, role)
                name = path.split(".")[1]
                assert answer.message == f"{name} needs role {LEAST[path].name}; this token's role is {role.name}"


async def test_what_is_forbidden_changes_nothing_and_leaves_the_other_fields_answered(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        staff = Viewer("somebody", Role.STAFF)
        answer = await client.answer('{ item(id: "mug") { id } verification(id: "1") { id } }', staff)
        assert answer.data == {"item": {"id": "mug"}, "verification": None}
        assert answer.codes == ["FORBIDDEN"]
        before = await client.ask("{ verifications { totalCount } migration { readSource } }")
        await client.answer("mutation { runVerification { errors { code } } }", staff)
        await client.answer("mutation { setReadSource(source: LEGACY) { errors { code } } }", staff)
        assert await client.ask("{ verifications { totalCount } migration { readSource } }") == before


async def test_a_role_comes_out_of_the_token_and_without_one_nobody_is_answered(batches_url: str) -> None:
    async with web_on(batches_url) as web:
        manager = await web.post("{ verifications { totalCount } }", role=Role.MANAGER)
        staff = await web.post("{ verifications { totalCount } }", role=Role.STAFF)
        nobody = await web.http.post("/graphql", json={"query": "{ __typename }"})
        stranger = await web.http.post(
            "/graphql", json={"query": "{ __typename }"}, headers={"Authorization": "Bearer nonsense"}
        )
    assert manager.json() == {"data": {"verifications": {"totalCount": 1}}}
    assert staff.json()["errors"][0]["extensions"] == {"code": "FORBIDDEN"}
    for response in (nobody, stranger):
        assert response.status_code == 401
        assert response.json()["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}
