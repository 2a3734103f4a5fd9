"""What clients see: types, inputs, payloads, scalars, and the schema object."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import lru_cache, partial
from typing import Any, cast

import strawberry
from graphql import (
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import ASTValidationRule
from sqlalchemy.exc import DBAPIError
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StreamResult
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.execution import ExecutionContext, ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from db.errors import StockshiftError
from resolvers.status import Status
from schema.extensions import AnswerAhead, CountMutations, MaskFaults, public
from schema.labels import labels_by_name, named
from schema.limits import limits
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription

REMEMBERED_DOCUMENTS = 256
AT_ONCE = {OperationType.QUERY, OperationType.MUTATION}
UNKNOWN_STATUS = "does not exist in 'Status' enum"


class Schema(strawberry.Schema):
    """`Status` has the database's own labels besides the four that every shop has, as far as they are known."""

    def __init__(
        self, labels: tuple[str, ...], *, max_depth: int, max_aliases: int, max_tokens: int, max_cost: int
    ) -> None:
        self.labels = labels
        self._with_labels = partial(
            build_schema, max_depth=max_depth, max_aliases=max_aliases, max_tokens=max_tokens, max_cost=max_cost
        )
        self._max_tokens = max_tokens
        self._rules: list[type[ASTValidationRule]] = [limits(max_depth, max_aliases)]
        super().__init__(
            query=Query,
            mutation=Mutation,
            subscription=Subscription,
            config=StrawberryConfig(auto_camel_case=False, scalar_map=SCALARS),
            extensions=[
                lambda: MaxTokensLimiter(max_token_count=max_tokens),
                lambda: AddValidationRules(self._rules),
                lambda: ParserCache(maxsize=REMEMBERED_DOCUMENTS),
                lambda: ValidationCache(maxsize=REMEMBERED_DOCUMENTS),
                MaskFaults,
                CountMutations,
                lambda: AnswerAhead(max_cost),
            ],
        )
        _know_labels(self, labels)
        _read_answers(self)

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any = None,
        *rest: Any,
        **others: Any,
    ) -> ExecutionResult:
        """As Strawberry does. A status that is not known is looked for in the database before it is refused.

        Raises InvalidOperationTypeError for a subscription.
        """
        others["allowed_operation_types"] = set(others.get("allowed_operation_types") or AT_ONCE) & AT_ONCE
        result = await super().execute(query, variable_values, context_value, *rest, **others)
        if context_value is None or not _is_about_unknown_status(result):
            return result
        try:
            await context_value.reader.look()
        except (StockshiftError, DBAPIError):
            return result
        labels = context_value.reader.status_labels
        if set(labels) <= {*self.labels, *Status}:
            return result
        return await self._with_labels(labels).execute(query, variable_values, context_value, *rest, **others)

    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any = None,
        root_value: Any = None,
        operation_name: str | None = None,
        *_: Any,
        **__: Any,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """The answers of a subscription; of anything else an error. `context_value` may be of several at once."""
        results = await super().stream(
            query,
            variable_values,
            context_value.anew(),
            root_value,
            operation_name,
            allowed_operation_types=[OperationType.SUBSCRIPTION],
        )
        return _to_the_end(results)

    def is_subscription(self, document: str, name: str | None) -> bool:
        """A document that cannot be read is none."""
        try:
            definitions = parse(document, max_tokens=self._max_tokens).definitions
        except (GraphQLError, RecursionError):
            return False
        operations = [one for one in definitions if isinstance(one, OperationDefinitionNode)]
        meant = [one for one in operations if name is None or (one.name and one.name.value == name)]
        return bool(meant) and meant[0].operation.value == OperationType.SUBSCRIPTION.value

    def problems(self, document: str) -> list[str]:
        """What is wrong with a document for whatever request. An unknown status is not: the database may know it."""
        try:
            parsed = parse(document, max_tokens=self._max_tokens)
            errors = validate(self._schema, parsed, [*specified_rules, *self._rules])
        except GraphQLSyntaxError as error:
            return [error.message]
        return [error.message for error in errors if UNKNOWN_STATUS not in error.message]

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """MaskFaults logs what is a fault, with its id; the rest is a client's mistake and nobody's log line."""


@lru_cache(maxsize=8)
def build_schema(
    labels: tuple[str, ...] = (),
    max_depth: int = 12,
    max_aliases: int = 30,
    max_tokens: int = 2_000,
    max_cost: int = 500_000,
) -> Schema:
    return Schema(labels, max_depth=max_depth, max_aliases=max_aliases, max_tokens=max_tokens, max_cost=max_cost)


async def _to_the_end(results: StreamResult) -> AsyncGenerator[ExecutionResult, None]:
    """What is raised, as it is for a document that cannot be parsed, is the last answer."""
    try:
        async with aclosing(results):
            async for result in results:
                yield cast("ExecutionResult", result)  # no frames of @defer or @stream
    except Exception as error:
        known = error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
        yield PreExecutionError(data=None, errors=[public(known)])


def _is_about_unknown_status(result: ExecutionResult) -> bool:
    """Nothing was executed, because an input names a status that the schema lacks."""
    return result.data is None and any(UNKNOWN_STATUS in e.message for e in result.errors or ())


def _know_labels(schema: Schema, labels: Iterable[str]) -> None:
    status = schema._schema.type_map["Status"]  # noqa: SLF001 - Strawberry has no public name for it
    if not isinstance(status, GraphQLEnumType):
        return
    for name, label in labels_by_name(labels).items():
        described = None if name == label else f"{label!r} in the database."
        status.values.setdefault(name, GraphQLEnumValue(label, description=described))
    names = {value.value: name for name, value in status.values.items()}
    # A label that was added since is answered too: a mutation has then been carried out.
    status.coerce_output_value = lambda output_value: str(  # type: ignore[method-assign]  # this one enum's alone
        names.get(output_value) or named(output_value)
    )


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
