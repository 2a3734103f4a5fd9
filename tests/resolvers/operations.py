"""Valid operations of the real schema, drawn at random: arguments, aliases, fragments, directives, variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_non_null_type,
)
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

IDS = ["mug", "pot", "vase", "cup", "rug", "bed", "odd", "mug-2", "bed-1", "1", "nothing", "", "Ω'\"\\%_"]
TEXTS = {"ID": IDS, "String": [*IDS, "m%", "É", "\n", "🙂"]}
DEEPEST = 5
ASYNC_FIELDS = {"migration"}  # it has a resolver of its own


@dataclass
class Draft:
    """An operation under construction: the variables that it declares, and their values."""

    schema: GraphQLSchema
    draw: DrawFn
    cursors: Mapping[str, list[str]]
    declared: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    fragments: list[str] = field(default_factory=list)
    aliases: int = 0

    def selection(self, parent: GraphQLObjectType, depth: int) -> str:
        names = [n for n, f in parent.fields.items() if n not in ASYNC_FIELDS and (depth < DEEPEST or self.is_leaf(f))]
        chosen = self.draw(st.lists(st.sampled_from([*names, "__typename"]), min_size=1, max_size=5))
        parts = [self.field(parent, name, depth) for name in chosen]
        shape = self.draw(st.sampled_from(["plain", "inline", "named"]))
        if shape == "inline":
            parts[-1] = f"... on {parent.name} {{ {parts[-1]} }}"
        elif shape == "named":
            name = f"F{len(self.fragments)}"
            self.fragments.append(f"fragment {name} on {parent.name} {{ {parts[-1]} }}")
            parts[-1] = f"...{name}"
        return "{ " + " ".join(parts) + " }"

    def field(self, parent: GraphQLObjectType, name: str, depth: int) -> str:
        self.aliases += 1
        text = f"a{self.aliases}: {name}"
        if name == "__typename":
            return text
        definition = parent.fields[name]
        arguments = []
        for argument_name, argument in definition.args.items():
            odds = 6 if argument_name == "after" else 2  # most cursors are of another order, and refused
            if is_non_null_type(argument.type) or self.draw(st.integers(1, odds)) == 1:
                arguments.append(f"{argument_name}: {self.argument(argument_name, argument)}")
        text += f"({', '.join(arguments)})" if arguments else ""
        if self.draw(st.integers(0, 9)) == 0:
            if self.draw(st.booleans()):
                self.declared["yes"], self.values["yes"] = "Boolean!", True
                text += " @include(if: $yes)"
            else:
                text += " @skip(if: false)"
        type_ = get_named_type(definition.type)
        return text if self.is_leaf(definition) else f"{text} {self.selection(type_, depth + 1)}"

    @staticmethod
    def is_leaf(definition: Any) -> bool:
        return not isinstance(get_named_type(definition.type), GraphQLObjectType)

    def argument(self, name: str, argument: GraphQLArgument) -> str:
        value = self.value(name, argument.type)
        if self.draw(st.booleans()):
            variable = f"v{len(self.values)}"
            self.declared[variable], self.values[variable] = str(argument.type), value
            return f"${variable}"
        return self.literal(argument.type, value)

    def value(self, name: str, type_: Any) -> Any:
        if is_non_null_type(type_):
            return self.value(name, type_.of_type)
        if hasattr(type_, "of_type"):  # a list
            return [self.value(name, type_.of_type) for _ in range(self.draw(st.integers(0, 3)))]
        if isinstance(type_, GraphQLEnumType):
            return self.draw(st.sampled_from(list(type_.values)))
        if isinstance(type_, GraphQLInputObjectType):
            given = {n: f for n, f in type_.fields.items() if is_non_null_type(f.type) or self.draw(st.booleans())}
            return {n: self.value(n, f.type) for n, f in given.items()}
        if name == "after":
            return self.draw(st.sampled_from([*(c for cs in self.cursors.values() for c in cs), "no cursor"]))
        simple: dict[str, list[Any]] = {"Int": [1, 2, 3, 50, 0, 1000, 1001], "Boolean": [True, False], **TEXTS}
        return self.draw(st.sampled_from(simple[type_.name]))

    def literal(self, type_: Any, value: Any) -> str:
        named = get_named_type(type_)
        if isinstance(value, list):
            return "[" + ", ".join(self.literal(named, part) for part in value) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{n}: {self.literal(named.fields[n].type, v)}" for n, v in value.items()) + "}"
        if isinstance(named, GraphQLEnumType):
            return str(value)
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        return str(value).lower()

    def operation(self) -> tuple[str, dict[str, Any]]:
        assert self.schema.query_type
        return self.document(self.selection(self.schema.query_type, 0))

    def document(self, body: str) -> tuple[str, dict[str, Any]]:
        declared = ", ".join(f"${name}: {type_}" for name, type_ in self.declared.items())
        return f"query{f'({declared})' if declared else ''} {body} {' '.join(self.fragments)}", self.values


@st.composite
def operations(draw: DrawFn, schema: GraphQLSchema, cursors: Mapping[str, list[str]]) -> tuple[str, dict[str, Any]]:
    """A document of one valid query, and values for its variables."""
    return Draft(schema, draw, cursors).operation()
