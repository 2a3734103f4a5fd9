"""What counts as an answer."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.load import write_requests, wrk
from bench.operations import Request
from bench.processes import Process

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on PATH")

RIGHT = b'{"data": {"item": {"id": "1"}}}'


@dataclass
class Answering:
    """An HTTP server that gives its answers in turn, with status 200."""

    answers: list[bytes]
    port: int = 0
    given: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readline():
                while (await reader.readline()).strip():
                    pass
                body = self.answers[self.given % len(self.answers)]
                self.given += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await reader.readexactly(2)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@contextmanager
def answering(*answers: bytes) -> Iterator[Process]:
    loop, server = asyncio.new_event_loop(), Answering(list(answers))
    listener = loop.run_until_complete(asyncio.start_server(server, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Process(0, listener.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(_end(listener))
        loop.close()


async def _end(listener: asyncio.Server) -> None:
    listener.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def press(process: Process, folder: Path) -> int:
    file = folder / "requests"
    write_requests(file, [Request("/graphql", b"{}")], None)
    return wrk(process, file, connections=2, seconds=1, seed=0).requests


def test_answers_with_data_are_counted(tmp_path: Path) -> None:
    with answering(RIGHT, RIGHT.replace(b" ", b"")) as process:
        assert press(process, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        b'{"data":null,"errors":[{"message":"no connection"}]}',
        b'{"errors":[{"message":"no connection"}],"data":{"item":{"id":"1"}}}',
        b'{"data":{"item":{"id":"1"}},"errors":[{"message":"no connection"}]}',
        b'{"data":{"item":null}}',
    ],
)
def test_an_error_is_no_answer_whatever_its_status(tmp_path: Path, wrong: bytes) -> None:
    with answering(RIGHT, RIGHT, RIGHT, wrong) as process, pytest.raises(BenchError) as refused:
        press(process, tmp_path)
    assert "requests failed, with answers such as" in refused.value.message
    assert wrong.decode() in refused.value.message
