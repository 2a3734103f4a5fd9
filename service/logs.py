"""One way for every log line, ours, uvicorn's and any library's: to stderr, UTC, without secrets."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.settings import Settings

REDACTED = "[redacted]"
_SENSITIVE = r"(?:authorization|password|secret|token)"
_KEY = re.compile(rf"{_SENSITIVE}$", re.IGNORECASE)
_VALUE = r"""(?:"[^"]*"|'[^']*'|\[[^\]]{0,256}\]|[^\s"',;&)}\]]+)"""
# Strangers choose much of what is logged: each pattern takes time linear in the text.
_ADDRESS = re.compile(r"://\S+")
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]{16,}", re.IGNORECASE)
_JWT = re.compile(r"eyJ[\w-]{16,}(?:\.[\w-]*){0,4}")  # eyJ is {" in base64
# name=value, 'name': 'value', and authorization: or password: alone; prose like "bad token: expired" stays
_NAMED = re.compile(
    rf"({_SENSITIVE}(?:\s?=\s?|[\"']\s?[:,]\s?b?)|(?:authorization|password):\s?)(?:(?:basic|bearer)\s)?{_VALUE}",
    re.IGNORECASE,
)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of an event: by the name of a key, and by how they look in any text."""
    return {str(key): _without_secrets(value, str(key)) for key, value in event.items()}


def _without_secrets(value: Any, key: str = "") -> Any:
    if _KEY.search(key):
        return REDACTED
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(name): _without_secrets(inner, str(name)) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_without_secrets(inner) for inner in value]
        case _:  # objects are shown as text here, as the renderer would after this was over
            return _clean(str(value))


def _clean(text: str) -> str:
    text = _ADDRESS.sub(_without_password, text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    text = _JWT.sub(REDACTED, text)
    return _NAMED.sub(rf"\1{REDACTED}", text)


def _without_password(address: re.Match[str]) -> str:
    before, _, host = address[0].rpartition("@")  # the last: a password may have one that was not encoded
    scheme_and_user = re.match(r"://[^:]*:", before)
    return f"{scheme_and_user[0]}{REDACTED}@{host}" if scheme_and_user else address[0]


class _WithoutQuery(logging.Filter):
    """uvicorn logs the address asked for: cut its query, which holds whatever a caller put there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("uvicorn") and isinstance(record.args, tuple):
            record.args = tuple(
                argument.partition("?")[0] if isinstance(argument, str) else argument for argument in record.args
            )
        return True


def configure_logging(settings: Settings) -> None:
    """Send all logging of this process to stderr, as JSON lines or for eyes. Each worker process calls it."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    render: Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WithoutQuery())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # before redaction: an error's text holds what it failed on
                redact,
                render,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    logging.raiseExceptions = False  # it prints what could not be formatted as it is, secrets and all
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # they may have handlers of their own
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
