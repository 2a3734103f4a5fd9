"""What a client may write to select: aliases, fragments, directives, variables, and how much of it."""

import time

import pytest

from tests.graphql_client import client_of


async def test_the_same_field_is_answered_under_each_alias_with_its_own_arguments(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        answer = await client.ask(
            """{
                mug: item(id: "mug") {
                    arrived: batches(status: Arrived) { totalCount n: totalCount }
                    rest: batches(status: ToOrder, first: 1) { list: edges { row: node { number: quantity } } }
                    total: totalQuantity totalQuantity
                }
                pot: item(id: "pot") { total: totalQuantity }
                low: stockSummary(filter: { lowStock: true }) { items }
                all: stockSummary { items }
            }"""
        )
    assert answer == {
        "mug": {
            "arrived": {"totalCount": 2, "n": 2},
            "rest": {"list": [{"row": {"number": 5}}]},
            "total": 22,
            "totalQuantity": 22,
        },
        "pot": {"total": 3},
        "low": {"items": 1},
        "all": {"items": 6},
    }


async def test_fragments_named_inline_and_nested_are_one_selection(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        answer = await client.ask(
            """
            query {
                item(id: "pot") { ...Named ... on Item { name legacy { status } } ... { legacy { quantityInStock } } }
            }
            fragment Named on Item { ...Ids legacy { ...Stock } }
            fragment Stock on LegacyStock { quantityInStock location { id } }
            fragment Ids on Item { id batches { edges { node { item { ...Name } } } } }
            fragment Name on Item { name }
            """
        )
    assert answer["item"] == {
        "id": "pot",
        "name": "pot",
        "batches": {"edges": [{"node": {"item": {"name": "pot"}}}]},
        "legacy": {"status": "Ordered", "quantityInStock": 3, "location": None},
    }


async def test_a_fragment_under_two_fields_counts_for_both(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        answer = await client.ask(
            """
            { a: item(id: "pot") { ...F ...F } b: item(id: "mug") { ...F } }
            fragment F on Item { id name }
            """
        )
    assert answer == {"a": {"id": "pot", "name": "pot"}, "b": {"id": "mug", "name": "mug"}}


@pytest.mark.parametrize("yes", [True, False])
async def test_include_and_skip_decide_on_fields_and_fragments(batches_url: str, yes: bool) -> None:
    query = """
        query($yes: Boolean! = true, $no: Boolean = false) {
            item(id: "pot") {
                id
                name @include(if: $yes)
                total: totalQuantity @skip(if: $yes)
                both: name @include(if: $yes) @skip(if: $no)
                ...F @include(if: $yes)
                ... on Item @skip(if: $yes) { usingBatchSystem }
                legacy @include(if: true) { status @skip(if: true) quantityInStock }
            }
            items @include(if: $yes) { totalCount }
        }
        fragment F on Item { statuses }
    """
    async with client_of(batches_url) as client:
        answer = await client.ask(query, yes=yes)
        if yes:
            assert answer == await client.ask(query)
    legacy = {"quantityInStock": 3}
    if yes:
        item = {"id": "pot", "name": "pot", "both": "pot", "statuses": ["Ordered"], "legacy": legacy}
        assert answer == {"item": item, "items": {"totalCount": 6}}
    else:
        assert answer == {"item": {"id": "pot", "total": 3, "usingBatchSystem": True, "legacy": legacy}}


async def test_every_object_knows_its_type(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        answer = await client.ask(
            """{
                __typename
                items(first: 1) { __typename edges { __typename node { __typename } } pageInfo { __typename } }
                stockSummary { type: __typename }
                item(id: "mug") {
                    __typename batches { __typename } quantityByLocation { __typename } legacy { __typename }
                }
            }"""
        )
    assert answer["__typename"] == "Query"
    assert answer["items"] == {
        "__typename": "ItemConnection",
        "edges": [{"__typename": "ItemEdge", "node": {"__typename": "Item"}}],
        "pageInfo": {"__typename": "PageInfo"},
    }
    assert answer["stockSummary"] == {"type": "StockSummary"}
    assert answer["item"]["batches"] == {"__typename": "StockBatchConnection"}
    assert answer["item"]["quantityByLocation"] == [{"__typename": "LocationQuantity"}] * 3
    assert answer["item"]["legacy"] == {"__typename": "LegacyStock"}


async def test_variables_have_defaults_and_null_is_a_value(stock_url: str) -> None:
    query = """
        query($id: ID! = "mug", $filter: ItemFilter = { search: "pot" }, $first: Int = 1) {
            item(id: $id) { id } items(filter: $filter, first: $first) { totalCount edges { node { id } } }
        }
    """
    async with client_of(stock_url) as client:
        defaults = await client.ask(query)
        given = await client.ask(query, id="vase", filter=None, first=None)
    assert defaults == {"item": {"id": "mug"}, "items": {"totalCount": 1, "edges": [{"node": {"id": "pot"}}]}}
    assert (given["item"]["id"], given["items"]["totalCount"], len(given["items"]["edges"])) == ("vase", 4, 4)


async def test_a_null_where_none_may_be_is_refused_before_anything_is_done(expanded_url: str) -> None:
    async with client_of(expanded_url) as client:
        argument = await client.answer('query($id: ID = "a") { item(id: $id) { id } items { totalCount } }', id=None)
        directive = await client.answer("query($b: Boolean = true) { items { totalCount @skip(if: $b) } }", b=None)
        below = await client.answer(
            'mutation($b: Boolean = true) { createBatch(input: { itemId: "a", quantity: 1 }) '
            "{ batch { id @skip(if: $b) } } }",
            b=None,
        )
        assert client.statements == []
    for answer in (argument, directive, below):
        assert answer.data is None
        assert answer.codes == ["BAD_REQUEST"]


async def test_one_of_several_operations_is_chosen_by_name(stock_url: str) -> None:
    document = 'query A { item(id: "mug") { id } } query B { item(id: "pot") { id } }'
    async with client_of(stock_url) as client:
        assert await client.ask(document, operation="B") == {"item": {"id": "pot"}}
        nameless = await client.answer(document)
        assert await client.ask('query A { item(id: "mug") { id } }') == {"item": {"id": "mug"}}
    assert nameless.codes == ["BAD_REQUEST"]
    assert nameless.message == "the document has several operations; say in operationName which one is meant"


async def test_items_batches_and_items_nest_in_each_other(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        answer = await client.ask(
            """{ batch(id: "mug-2") { item { batches(first: 1, status: ToOrder) { edges { node {
                id item { batches(first: 1) { totalCount edges { node { openingBatch item { totalQuantity } } } } }
            } } } } } }"""
        )
    (node,) = [edge["node"] for edge in answer["batch"]["item"]["batches"]["edges"]]
    assert node["id"] == "mug-2"
    inner = node["item"]["batches"]
    assert inner["totalCount"] == 3
    assert inner["edges"] == [{"node": {"openingBatch": True, "item": {"totalQuantity": 22}}}]


async def test_an_alias_of_a_hundred_characters_is_answered_whole(stock_url: str) -> None:
    alias = "a" * 100
    async with client_of(stock_url) as client:
        assert await client.ask(f'{{ {alias}: item(id: "mug") {{ {alias}: name }} }}') == {alias: {alias: "mug"}}


async def test_too_many_aliases_are_refused_before_the_database_is_asked(stock_url: str) -> None:
    aliases = " ".join(f"a{number}: name" for number in range(31))
    async with client_of(stock_url) as client:
        answer = await client.answer(f'{{ item(id: "mug") {{ {aliases} }} }}')
        assert client.statements == []
    assert answer.codes == ["BAD_REQUEST"]
    assert answer.message == "the operation has 31 aliases; at most 30 are answered"


async def test_an_object_has_as_many_fields_as_aliases_allow(stock_url: str) -> None:
    """PostgreSQL passes at most 100 arguments to a function, and each field takes two."""
    aliases = [f"a{number}" for number in range(250)]
    async with client_of(stock_url, max_aliases=300) as client:
        answer = await client.ask(f'{{ item(id: "mug") {{ {" ".join(f"{alias}: name" for alias in aliases)} }} }}')
    assert answer["item"] == dict.fromkeys(aliases, "mug")


async def test_nesting_too_deep_is_refused_through_fragments_too(stock_url: str) -> None:
    def query(levels: int) -> str:
        fragments = "".join(
            f" fragment F{n} on StockBatch {{ item {{ batches {{ edges {{ node {{ ...F{n + 1} }} }} }} }} }}"
            for n in range(levels)
        )
        return f'{{ batch(id: "a") {{ ...F0 }} }} {fragments} fragment F{levels} on StockBatch {{ id }}'

    async with client_of(stock_url) as client:
        await client.ask(query(2))
        answer = await client.answer(query(3))
    assert answer.codes == ["BAD_REQUEST"]
    assert answer.message == "the operation nests 13 levels deep; at most 12 are answered"


def doubled(levels: int) -> str:
    fragments = "".join(f" fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels))
    return f'{{ ...F0 }} {fragments} fragment F{levels} on Query {{ item(id: "mug") {{ a: id }} }}'


async def test_fragments_that_spread_each_other_twice_do_not_double_the_work(stock_url: str) -> None:
    """Ten levels more, walked one by one, would take a thousand times as long."""
    async with client_of(stock_url, max_aliases=2**31) as client:
        await client.ask(doubled(1))
        took = {}
        for levels in (12, 22):
            began = time.monotonic()
            assert await client.ask(doubled(levels)) == {"item": {"a": "mug"}}
            took[levels] = time.monotonic() - began
        assert took[22] < 50 * took[12]
    async with client_of(stock_url) as client:
        answer = await client.answer(doubled(30))
    assert answer.message == f"the operation has {2**30} aliases; at most 30 are answered"


async def test_fragments_that_spread_themselves_are_refused(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        answer = await client.answer("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }")
    assert answer.codes == ["BAD_REQUEST"]
    assert "Cannot spread fragment 'A' within itself" in answer.message


WRONG = [
    "{",
    "{ item }",
    '{ item(id: "a") }',
    "{ nothing }",
    "{ items { edges { node { secret } } } }",
    "{ items(first: 1.5) { totalCount } }",
    '{ items(first: "1") { totalCount } }',
    "{ items(orderBy: { field: NAME }) { totalCount } }",
    "{ items(filter: { nonsense: 1 }) { totalCount } }",
    "{ items(first: 99999999999) { totalCount } }",
    "query($a: Nothing) { items { totalCount } }",
    "query($a: Int) { items(first: $b) { totalCount } }",
    "{ ...Nothing }",
    "subscription { nothing { phase } }",
]


async def test_a_document_that_is_wrong_is_refused_and_nothing_is_asked(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        for document in WRONG:
            answer = await client.answer(document)
            assert answer.data is None, document
            assert set(answer.codes) == {"BAD_REQUEST"}, document
        assert client.statements == []


INTROSPECTION = '{ __schema { queryType { name } types { name fields { name } } } __type(name: "Item") { name } }'


async def test_introspection_alone_asks_the_database_nothing(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        answer = await client.ask(INTROSPECTION)
        await client.ask("{ __typename }")
        assert client.statements == []
    assert answer["__schema"]["queryType"] == {"name": "Query"}
    assert answer["__type"] == {"name": "Item"}


async def test_introspection_and_data_go_together(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        answer = await client.ask('{ __type(name: "Item") { name } item(id: "mug") { name } __typename }')
    assert answer == {"__type": {"name": "Item"}, "item": {"name": "mug"}, "__typename": "Query"}
