"""What an operation asks for, as a tree: fragments merged, `@include` and `@skip` decided, arguments coerced.

It is what graphql-core collects while it executes, collected ahead of execution, so that one statement can be built
of the whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLIncludeDirective,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    get_argument_values,
    get_directive_values,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)
from graphql.execution.values import VariableValues


@dataclass
class Selected:
    """One field of the answer: its key there, its name in the schema, its arguments, and what is asked of its value."""

    key: str
    name: str
    arguments: dict[str, Any]
    children: tuple["Selected", ...] = field(default=())
    required: bool = False  # null is no answer
    parent: str = ""  # the type of the object that has the field
    has_fields: bool = False  # it is an object, or a list of them
    is_list: bool = False

    def asks(self, name: str) -> bool:
        return any(child.name == name for child in self.children)


@dataclass(frozen=True)
class Collector:
    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: VariableValues

    def collect(self, operation: OperationDefinitionNode) -> tuple[Selected, ...]:
        """The root fields.

        Raises GraphQLError for an argument that is missing, or null where it may not be.
        """
        root = self.schema.get_root_type(operation.operation)
        return self._fields(root, [operation.selection_set]) if root else ()

    def _fields(self, parent: GraphQLObjectType, sets: list[SelectionSetNode]) -> tuple[Selected, ...]:
        merged: dict[str, list[FieldNode]] = {}
        spread: set[str] = set()
        for selection_set in sets:
            for node in self._flat(selection_set, spread):
                merged.setdefault((node.alias or node.name).value, []).append(node)
        return tuple(self._selected(parent, key, nodes) for key, nodes in merged.items())

    def _selected(self, parent: GraphQLObjectType, key: str, nodes: list[FieldNode]) -> Selected:
        first = nodes[0]
        if first.name.value.startswith("__"):
            return Selected(key, first.name.value, {}, parent=parent.name)
        definition = parent.fields[first.name.value]
        arguments = get_argument_values(definition, first, self.variables)
        type_ = get_named_type(definition.type)
        children: tuple[Selected, ...] = ()
        if isinstance(type_, GraphQLObjectType):
            children = self._fields(type_, [node.selection_set for node in nodes if node.selection_set])
        required = isinstance(definition.type, GraphQLNonNull)
        kind = {"has_fields": is_composite_type(type_), "is_list": is_list_type(get_nullable_type(definition.type))}
        return Selected(key, first.name.value, arguments, children, required, parent.name, **kind)

    def _flat(self, selection_set: SelectionSetNode, spread: set[str]) -> Iterator[FieldNode]:
        """A fragment counts once, however often it is spread: fragments that spread each other twice would double."""
        for node in selection_set.selections:
            if not self._included(node):
                continue
            if isinstance(node, FieldNode):
                yield node
            elif isinstance(node, InlineFragmentNode):
                yield from self._flat(node.selection_set, spread)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                spread.add(node.name.value)
                yield from self._flat(self.fragments[node.name.value].selection_set, spread)

    def _included(self, node: SelectionNode) -> bool:
        if not node.directives:
            return True
        skip = get_directive_values(GraphQLSkipDirective, node, self.variables)
        include = get_directive_values(GraphQLIncludeDirective, node, self.variables)
        return not (skip and skip["if"]) and not (include and not include["if"])
