"""What clients see: types, inputs, payloads, scalars, and the schema object."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import strawberry
from graphql import GraphQLEnumType, GraphQLEnumValue, GraphQLError, GraphQLObjectType, GraphQLResolveInfo
from strawberry.extensions import (
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    ValidationCache,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.execution import ExecutionContext

from schema.extensions import AnswerAhead, MaskFaults
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """MaskFaults logs what is a fault, with its id; the rest is a client's mistake and nobody's log line."""


@lru_cache(maxsize=8)
def build_schema(
    labels: tuple[str, ...] = (), max_depth: int = 12, max_aliases: int = 30, max_tokens: int = 2_000
) -> Schema:
    """The schema, `Status` having the database's own labels besides the four that every shop has."""
    schema = Schema(
        query=Query,
        mutation=Mutation,
        config=StrawberryConfig(auto_camel_case=False, scalar_map=SCALARS),
        extensions=[
            lambda: MaxTokensLimiter(max_token_count=max_tokens),
            lambda: MaxAliasesLimiter(max_alias_count=max_aliases),
            lambda: QueryDepthLimiter(max_depth=max_depth),
            lambda: ParserCache(maxsize=256),
            lambda: ValidationCache(maxsize=256),
            MaskFaults,
            AnswerAhead,
        ],
    )
    _know_labels(schema, labels)
    _read_answers(schema)
    return schema


def _know_labels(schema: Schema, labels: Iterable[str]) -> None:
    status = schema._schema.type_map["Status"]  # noqa: SLF001 - Strawberry has no public name for it
    if isinstance(status, GraphQLEnumType):
        for label in labels:
            status.values.setdefault(label, GraphQLEnumValue(label))


def _read_answers(schema: Schema) -> None:
    """Fields without a resolver of their own are read from the answer, under the key that the client chose."""
    for concrete in schema.schema_converter.type_map.values():
        implementation = concrete.implementation
        if isinstance(concrete.definition, StrawberryObjectDefinition) and isinstance(
            implementation, GraphQLObjectType
        ):
            for field in concrete.definition.fields:
                if field.base_resolver is None:
                    implementation.fields[schema.config.name_converter.get_graphql_name(field)].resolve = _from_answer


def _from_answer(source: Any, info: GraphQLResolveInfo[Any]) -> Any:
    if isinstance(source, dict):
        return source[info.path.key]
    return getattr(source, info.field_name)
