"""An operation of a validated document, and what it asks for given the variables of a request."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import DocumentNode, GraphQLSchema, OperationDefinitionNode, OperationType, get_operation_ast
from graphql.execution.values import VariableValues, get_variable_values
from graphql.language import FragmentDefinitionNode

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

    def asked(self, variables: Mapping[str, Any] | None) -> Asked | None:
        """None when the variables are not of their types: graphql-core finds the same, and reports it."""
        coerced = get_variable_values(self.schema, self.node.variable_definitions or (), dict(variables or {}))
        if not isinstance(coerced, VariableValues):
            return None
        shape, symbols = shape_of(coerced.coerced)
        return Asked(self, coerced.coerced, shape, symbols)

    def collect(self, variables: Mapping[str, Any]) -> tuple[Selected, ...]:
        values = VariableValues(sources={}, coerced=dict(variables))
        return Collector(self.schema, self.fragments, values).collect(self.node)
