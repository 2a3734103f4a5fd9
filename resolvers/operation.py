"""An operation of a validated document, and what it asks for given the variables of a request."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphql import DocumentNode, GraphQLSchema, OperationDefinitionNode, OperationType, get_operation_ast
from graphql.execution.values import VariableValues, get_variable_values
from graphql.language import FragmentDefinitionNode, NamedTypeNode, NonNullTypeNode

from resolvers.arrivals import shape_of
from resolvers.selection import Collector, Selected


@dataclass(frozen=True)
class Asked:
    """What one request asks: `variables` are coerced; `shape` is all of them that decides what the SQL is."""

    operation: "Operation"
    variables: Mapping[str, Any]
    shape: Hashable
    symbols: Mapping[str, Any]

    def selections(self) -> tuple[Selected, ...]:
        """What is asked for, with Arrivals in place of the values that do not matter to the SQL."""
        return self.operation.collect(self.symbols)


@dataclass(frozen=True, eq=False)
class Operation:
    schema: GraphQLSchema
    node: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]

    @classmethod
    def of(cls, schema: GraphQLSchema, document: DocumentNode, name: str | None) -> "Operation | None":
        node = get_operation_ast(document, name)
        fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        return cls(schema, node, fragments) if node else None

    @property
    def is_query(self) -> bool:
        return self.node.operation is OperationType.QUERY

    @cached_property
    def _of_texts(self) -> Asked | None:
        """What is asked with any values of the variables, if each is an ID or a String."""
        variables = {one.variable.name.value: one.type for one in self.node.variable_definitions or ()}
        named = [type_.type if isinstance(type_, NonNullTypeNode) else type_ for type_ in variables.values()]
        if not all(isinstance(type_, NamedTypeNode) and type_.name.value in ("ID", "String") for type_ in named):
            return None
        texts = dict.fromkeys(variables, "")
        return Asked(self, texts, *shape_of(texts))

    def asked(self, variables: Mapping[str, Any] | None) -> Asked | None:
        """None when the variables are not of their types: graphql-core finds the same, and reports it."""
        known = self._of_texts
        if (
            known
            and variables
            and known.variables.keys() == variables.keys()
            and all(map(_is_text, variables.values()))
        ):
            return Asked(self, variables, known.shape, known.symbols)  # there is nothing to coerce
        coerced = get_variable_values(self.schema, self.node.variable_definitions or (), dict(variables or {}))
        if not isinstance(coerced, VariableValues):
            return None
        shape, symbols = shape_of(coerced.coerced)
        return Asked(self, coerced.coerced, shape, symbols)

    def collect(self, variables: Mapping[str, Any]) -> tuple[Selected, ...]:
        values = VariableValues(sources={}, coerced=dict(variables))
        return Collector(self.schema, self.fragments, values).collect(self.node)


def _is_text(value: object) -> bool:
    return type(value) is str
