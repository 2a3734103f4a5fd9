"""Trusted documents: with a list of them, nothing else is executed.

The list is a JSON file, `{"<id>": "<document>", ...}`, which a client's build step writes. A request names a document
by its id, in `documentId` (GraphQL over HTTP) or `extensions.persistedQuery.sha256Hash` (Apollo), or sends its text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from db.errors import StockshiftError
from resolvers.errors import BadRequest
from resolvers.text import shown
from service.settings import SettingsError, variable

NAME = variable("trusted_documents")
FORM = 'it should be like {"<id>": "<document>", ...}'


class UntrustedDocument(StockshiftError):
    """This service executes known documents only; send the id of one as documentId, or have yours put on the list."""

    code = "UNTRUSTED_DOCUMENT"


@dataclass(frozen=True, eq=False)
class TrustedDocuments:
    by_id: Mapping[str, str]
    texts: frozenset[str]

    @classmethod
    def read(cls, path: Path, problems: Callable[[str], list[str]]) -> "TrustedDocuments":
        """Those of a file; `problems` says what is wrong with a document. SettingsError: the first thing wrong."""
        try:
            by_id = orjson.loads(path.read_bytes())
        except OSError as error:
            raise SettingsError(
                f"{NAME}={str(path)!r} cannot be read ({error.strerror}); name a file that can"
            ) from error
        except orjson.JSONDecodeError as error:
            raise SettingsError(f"{NAME}={str(path)!r} is not JSON ({error}); {FORM}") from error
        if not isinstance(by_id, dict) or not all(isinstance(text, str) for text in by_id.values()):
            raise SettingsError(f"{NAME}={str(path)!r} is not a list of documents; {FORM}")
        for id_, text in by_id.items():
            for problem in problems(text):
                raise SettingsError(f"{NAME}={str(path)!r}: document {shown(id_)} cannot be executed: {problem}")
        return cls(by_id, frozenset(by_id.values()))


def document_of(request: Mapping[str, Any], trusted: TrustedDocuments | None) -> str | None:
    """The document that a request asks for, None when it has none; `trusted` None: there is no list.

    A text counts before an id. Raises UntrustedDocument; BadRequest for an id where no document has one.
    """
    text: str | None = request.get("query")
    if text is not None:
        if trusted is not None and text not in trusted.texts:
            raise UntrustedDocument
        return text
    id_ = _id_in(request)
    if id_ is None:
        return None
    if trusted is None:
        raise BadRequest(
            f"a document is asked for by its id, but none has one here ({NAME} is not set); send it as query"
        )
    if id_ not in trusted.by_id:
        raise UntrustedDocument(f"no document has id {shown(id_)} here; {UntrustedDocument.__doc__}")
    return trusted.by_id[id_]


def _id_in(request: Mapping[str, Any]) -> str | None:
    id_ = request.get("documentId")
    if id_ is None:
        extensions = request.get("extensions")
        persisted = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
        id_ = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    if id_ is not None and not isinstance(id_, str):
        raise BadRequest(f"the id of a document is {shown(str(id_))}; a string is expected")
    return id_
