"""What happens around the execution of every operation: it is answered ahead, and its faults are masked."""

import logging
import uuid
from collections.abc import AsyncIterator, Mapping

from graphql import GraphQLError, OperationDefinitionNode, OperationType, get_operation_ast
from graphql.execution.values import VariableValues, get_variable_values
from graphql.language import FragmentDefinitionNode
from sqlalchemy.exc import DBAPIError
from strawberry.extensions import SchemaExtension

from db.engine import ConnectionFailed
from resolvers.errors import BadRequest, Forbidden
from resolvers.query import ROOTS
from resolvers.reader import NotAShop, Unsettled
from resolvers.selection import Collector
from schema.context import Context

log = logging.getLogger("stockshift.graphql")

STATEMENT_TIMEOUT = "57014"
SHUT_DOWN = {"57P01", "57P02", "57P03"}
UNAVAILABLE = "the database cannot be reached now; try again in a moment"


class AnswerAhead(SchemaExtension):
    """Answers every planned root field of a query with one statement, before graphql-core walks through the answer."""

    async def on_execute(self) -> AsyncIterator[None]:
        execution = self.execution_context
        document = execution.graphql_document
        schema = execution.schema._schema  # noqa: SLF001 - Strawberry has no public name for graphql-core's schema
        # As given: without a name Strawberry would take the first of several operations.
        name = execution._provided_operation_name  # noqa: SLF001 - it has no public name
        operation = get_operation_ast(document, name) if document else None
        if document is None or operation is None:
            raise GraphQLError("the document has several operations; say in operationName which one is meant")
        variables = get_variable_values(schema, operation.variable_definitions or (), execution.variables or {})
        if isinstance(variables, VariableValues):  # else graphql-core finds the same errors, and reports them
            fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
            await self._answer(Collector(schema, fragments, variables), operation)
        yield

    async def _answer(self, collector: Collector, operation: OperationDefinitionNode) -> None:
        context: Context = self.execution_context.context
        selected = collector.collect(operation)
        if operation.operation is not OperationType.QUERY:
            context.selected = {one.key: one for one in selected}
            return
        planned = [one for one in selected if one.name in ROOTS]
        try:
            answers: Mapping[str, object] = await context.reader.answer(context.viewer, planned) if planned else {}
        except Exception as fault:
            answers = dict.fromkeys((one.key for one in planned), fault)
        self.execution_context.root_value = answers


class MaskFaults(SchemaExtension):
    """Gives every error a code. What is nobody's fault but ours is logged under an id; the client gets the id."""

    async def on_execute(self) -> AsyncIterator[None]:
        yield
        result = self.execution_context.result
        if result is not None and result.errors:
            result.errors = [public(error) for error in result.errors]


def public(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    match cause:
        case None if error.path is None:
            return _coded(error, error.message, "BAD_REQUEST")
        case None:  # a stored value that GraphQL cannot say, such as a cost of NaN
            return _coded(error, error.message, "UNREPRESENTABLE")
        case RecursionError():
            return _coded(error, "the document nests too deep to be read", "BAD_REQUEST")
        case BadRequest() | Forbidden():
            return _coded(error, cause.message, cause.code)
        case ConnectionFailed() | NotAShop() | Unsettled():
            log.error("the database did not answer: %s", cause.message)
            return _coded(error, UNAVAILABLE, "UNAVAILABLE")
        case DBAPIError() if is_lost(cause):
            log.error("the connection to the database was lost: %s", cause.orig)
            return _coded(error, UNAVAILABLE, "UNAVAILABLE")
        case DBAPIError() if sqlstate(cause) == STATEMENT_TIMEOUT:
            return _coded(error, "the database took too long over this query; ask for fewer rows or fields", "TIMEOUT")
    fault = uuid.uuid4().hex
    log.error("fault %s at %s", fault, error.path, exc_info=cause)
    return _coded(error, f"something failed on our side; quote {fault} to whoever runs this service", "FAULT", fault)


def sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def is_lost(error: DBAPIError) -> bool:
    """There was a connection, and there is none now."""
    return error.connection_invalidated or sqlstate(error).startswith("08") or sqlstate(error) in SHUT_DOWN


def _coded(error: GraphQLError, message: str, code: str, fault: str | None = None) -> GraphQLError:
    extensions = {"code": code} if fault is None else {"code": code, "id": fault}
    return GraphQLError(message, nodes=error.nodes, path=error.path, extensions=extensions)
