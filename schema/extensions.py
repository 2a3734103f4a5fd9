"""What happens around the execution of every operation: it is answered ahead, and its faults are masked."""

import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from graphql import GraphQLError
from sqlalchemy.exc import DBAPIError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionResult, StreamExecutionResult
from strawberry.types.graphql import OperationType

from db.engine import ConnectionFailed, PoolFull
from db.shape import NotAShop
from db.sqlstate import is_lost, sqlstate
from resolvers.cost import cost
from resolvers.errors import BadRequest, Forbidden
from resolvers.operation import Asked, Operation
from resolvers.query import ROOTS
from resolvers.reader import Reader, Unsettled
from resolvers.selection import Selected
from schema.context import Context

log = logging.getLogger("stockshift.graphql")

STATEMENT_TIMEOUT = "57014"
UNAVAILABLE = "UNAVAILABLE"
"""The code of an error after which nothing of the response counts: the whole operation is to be tried again."""
AWAY = "the database cannot be reached now; try again in a moment"
BUSY = "too much is asked at once, and no connection to the database came free in time; try again in a moment"


class AnswerAhead(SchemaExtension):
    """Answers every planned root field of a query with one statement, before graphql-core walks through the answer.

    Refuses an operation that costs more than `max_cost` before that, and a mutation before it changes anything.
    """

    def __init__(self, max_cost: int) -> None:
        self.max_cost = max_cost

    async def on_execute(self) -> AsyncIterator[None]:
        execution = self.execution_context
        reader: Reader = execution.context.reader
        # As given: without a name Strawberry would take the first of several operations.
        key = (execution.query or "", execution._provided_operation_name)  # noqa: SLF001 - it has no public name
        operation = reader.recall(*key) or self._operation(key[1])
        asked = operation.asked(execution.variables)
        if asked is not None:  # else graphql-core finds the variables wrong as well, and says how
            await self._answer(asked)
            reader.remember(*key, operation)
        yield

    def _operation(self, name: str | None) -> Operation:
        execution = self.execution_context
        schema = execution.schema._schema  # noqa: SLF001 - Strawberry has no public name for graphql-core's schema
        operation = execution.graphql_document and Operation.of(schema, execution.graphql_document, name)
        if not operation:
            raise GraphQLError("the document has several operations; say in operationName which one is meant")
        return operation

    async def _answer(self, asked: Asked) -> None:
        context: Context = self.execution_context.context
        if not asked.operation.is_query:
            selections = asked.operation.collect(asked.variables)
            self._require_affordable(asked, selections)
            context.selected = {one.key: one for one in selections}
            return
        selections = asked.selections()
        self._require_affordable(asked, selections)
        planned = [one.key for one in selections if one.name in ROOTS]
        if len(planned) < len(selections):
            context.selected = {one.key: one for one in asked.operation.collect(asked.variables)}
        answers: Mapping[str, object] = {}
        try:
            if planned and context.fault is None:
                answers = await context.reader.answer(context.viewer, asked, context.consistency)
        except Exception as fault:
            context.fault = fault
        self.execution_context.root_value = dict.fromkeys(planned, context.fault) if context.fault else answers

    def _require_affordable(self, asked: Asked, selections: Iterable[Selected]) -> None:
        computed = cost(selections, self.execution_context.context.reader.most_rows)
        log.debug("the operation costs %d; at most %d is answered", computed, self.max_cost)
        if computed > self.max_cost:
            raise GraphQLError(
                f"the operation costs {computed}, about as many objects as its answer may have; at most {self.max_cost}"
                " is answered: ask for fewer rows with `first`, or nest less",
                asked.operation.node,
            )


class CountMutations(SchemaExtension):
    """By what came of each: done, refused, failed."""

    def on_execute(self) -> Iterator[None]:
        yield
        context: Context | None = self.execution_context.context
        result = self.execution_context.result
        if context is None or self.execution_context.operation_type is not OperationType.MUTATION:
            return
        data = getattr(result, "data", None) or {}
        for one in context.selected.values():
            context.mutations[one.name, _outcome(one, data.get(one.key))] += 1


def _outcome(mutation: Selected, payload: Mapping[str, object] | None) -> str:
    """Refused is one whose payload has errors or, when these are not asked for, nothing else either."""
    if payload is None:
        return "failed"
    asked = [child for child in mutation.children if child.name != "__typename"]
    errors = [child for child in asked if child.name == "errors"]
    refused = any(payload[child.key] for child in errors) if errors else all(payload[c.key] is None for c in asked)
    return "refused" if asked and refused else "done"


class MaskFaults(SchemaExtension):
    """Gives every error a code. What is nobody's fault but ours is logged under an id; the client gets the id."""

    async def on_execute(self) -> AsyncIterator[None]:
        yield
        result = self.execution_context.result
        if result is not None and result.errors:
            result.errors = [public(error) for error in result.errors]

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        """What a subscription answers, each time."""
        if isinstance(result, ExecutionResult) and result.errors:
            result.errors = [public(error) for error in result.errors]
        yield


def public(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    away = unavailable(cause)
    if away is not None:
        return _coded(error, away, UNAVAILABLE)
    match cause:
        case None if error.path is None:
            return _coded(error, error.message, "BAD_REQUEST")
        case None:  # a stored value that GraphQL cannot say, such as a cost of NaN
            return _coded(error, error.message, "UNREPRESENTABLE")
        case RecursionError():
            return _coded(error, "the document nests too deep to be read", "BAD_REQUEST")
        case InvalidOperationTypeError():
            message = "here only a subscription is answered; send a query or a mutation in a POST of its own"
            return _coded(error, message, "BAD_REQUEST")
        case CannotGetOperationTypeError():
            return _coded(error, cause.as_http_error_reason(), "BAD_REQUEST")
        case BadRequest() | Forbidden():
            return _coded(error, cause.message, cause.code)
        case _ if sqlstate(cause) == STATEMENT_TIMEOUT:
            return _coded(error, "the database took too long over this query; ask for fewer rows or fields", "TIMEOUT")
    fault = uuid.uuid4().hex
    log.error("fault %s at %s", fault, error.path, exc_info=cause)
    return _coded(error, f"something failed on our side; quote {fault} to whoever runs this service", "FAULT", fault)


def unavailable(cause: BaseException | None) -> str | None:
    """What to tell a client who cannot be answered at all now; None if that is not the matter."""
    match cause:
        case PoolFull():
            log.warning("a client was sent away: %s", cause.message)
            return BUSY
        case ConnectionFailed() | NotAShop() | Unsettled():
            log.error("the database did not answer: %s", cause.message)
            return AWAY
        case DBAPIError() if is_lost(cause):
            log.error("the connection to the database was lost: %s", cause.orig)
            return AWAY
    return None


def _coded(error: GraphQLError, message: str, code: str, fault: str | None = None) -> GraphQLError:
    extensions = {"code": code} if fault is None else {"code": code, "id": fault}
    return GraphQLError(message, nodes=error.nodes, path=error.path, extensions=extensions)
