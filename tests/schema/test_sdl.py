"""The schema's text: the snapshot is current, and what clients may count on is in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    DefinitionNode,
    EnumTypeDefinitionNode,
    FieldDefinitionNode,
    GraphQLSchema,
    InputObjectTypeDefinitionNode,
    InputValueDefinitionNode,
    ObjectTypeDefinitionNode,
    parse,
    print_ast,
    specified_rules,
    validate,
    value_from_ast_untyped,
)
from graphql import build_schema as read_sdl

from schema import build_schema
from schema.limits import limits

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "schema" / "schema.graphql"
EXAMPLES = sorted((ROOT / "service" / "examples").glob("*.graphql"))
CONTRACT = parse((Path(__file__).parent / "contract.graphql").read_text())

# What the contract has and is not built yet.
LATER_FIELDS = {
    *("Mutation." + name for name in ("updateBatch", "transferBatch", "issueStock", "adjustBatch")),
}


def test_the_snapshot_is_current() -> None:
    """If this fails and the change is meant: .venv/bin/stockshift schema > schema/schema.graphql."""
    assert SNAPSHOT.read_text() == build_schema().as_str() + "\n"


def own_schema() -> GraphQLSchema:
    return read_sdl(SNAPSHOT.read_text())


def definitions(document: Any) -> dict[str, DefinitionNode]:
    return {definition.name.value: definition for definition in document.definitions}


OURS = definitions(parse(SNAPSHOT.read_text()))


def members(definition: DefinitionNode) -> Iterator[Any]:
    match definition:
        case ObjectTypeDefinitionNode() | InputObjectTypeDefinitionNode():
            yield from definition.fields or ()
        case EnumTypeDefinitionNode():
            yield from definition.values or ()


CONTRACTED = [
    (name, member)
    for name, definition in definitions(CONTRACT).items()
    for member in members(definition)
    if f"{name}.{member.name.value}" not in LATER_FIELDS
]


@pytest.mark.parametrize(
    ("type_name", "wanted"), CONTRACTED, ids=[f"{name}.{member.name.value}" for name, member in CONTRACTED]
)
def test_what_clients_may_count_on_is_there(type_name: str, wanted: Any) -> None:
    assert type_name in OURS
    assert type(OURS[type_name]) is type(definitions(CONTRACT)[type_name])
    found = {member.name.value: member for member in members(OURS[type_name])}.get(wanted.name.value)
    assert found is not None
    match wanted:
        case FieldDefinitionNode():
            assert print_ast(found.type) == print_ast(wanted.type)
            arguments = {argument.name.value: argument for argument in found.arguments or ()}
            for argument in wanted.arguments or ():
                same_input(arguments.pop(argument.name.value), argument)
            for argument in arguments.values():
                assert argument.default_value or not print_ast(argument.type).endswith("!"), "an added one is optional"
        case InputValueDefinitionNode():
            same_input(found, wanted)


def same_input(found: InputValueDefinitionNode, wanted: InputValueDefinitionNode) -> None:
    assert print_ast(found.type) == print_ast(wanted.type)
    assert (found.default_value is None) == (wanted.default_value is None)
    if found.default_value and wanted.default_value:
        assert value_from_ast_untyped(found.default_value) == value_from_ast_untyped(wanted.default_value)


def test_an_input_that_was_added_is_optional() -> None:
    for name, definition in definitions(CONTRACT).items():
        if isinstance(definition, InputObjectTypeDefinitionNode):
            known = {member.name.value for member in members(definition)}
            for member in members(OURS[name]):
                if member.name.value not in known:
                    assert member.default_value or not print_ast(member.type).endswith("!")


def test_what_is_for_later_is_not_there_yet() -> None:
    """So that nothing stays on the list once it is built."""
    for name in LATER_FIELDS:
        type_name, field = name.split(".")
        assert field not in {member.name.value for member in members(OURS[type_name])}


def test_a_connection_is_relays() -> None:
    connections = [definition for name, definition in OURS.items() if name.endswith("Connection")]
    assert len(connections) == 7
    for definition in connections:
        fields = {member.name.value: print_ast(member.type) for member in members(definition)}
        edge = fields["edges"].strip("[]!")
        assert fields == {"edges": f"[{edge}!]!", "pageInfo": "PageInfo!", "totalCount": "Int!"}
        of_edge = {member.name.value: print_ast(member.type) for member in members(OURS[edge])}
        assert of_edge == {"cursor": "String!", "node": f"{edge.removesuffix('Edge')}!"}
    page_info = {member.name.value: print_ast(member.type) for member in members(OURS["PageInfo"])}
    assert page_info == {
        "hasNextPage": "Boolean!",
        "hasPreviousPage": "Boolean!",
        "startCursor": "String",
        "endCursor": "String",
    }


def test_nobodys_e_mail_or_password_can_be_asked_for() -> None:
    assert [member.name.value for member in members(OURS["User"])] == ["id", "name"]


def test_there_is_an_example_for_every_root_field() -> None:
    shown = " ".join(path.read_text() for path in EXAMPLES)
    for root in ("Query", "Mutation", "Subscription"):
        for member in members(OURS[root]):
            assert f"{member.name.value}" in shown


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.stem))
def test_an_example_is_valid_within_the_limits(path: Path) -> None:
    rules = [*specified_rules, limits(max_depth=12, max_aliases=30)]
    assert validate(own_schema(), parse(path.read_text(), max_tokens=2_000), rules) == []
