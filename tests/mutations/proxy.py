"""A proxy in front of PostgreSQL that hangs up at the worst moment: the server has done it, the client never hears."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy.engine import make_url

from tests.support import connect_arguments

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Proxy:
    """`url` leads through it. The answer to the first message with `words`, once they are set, is not passed on.

    Nor is the message itself, unless it `arrives`. `turns` counts how often the client spoke and then waited for an
    answer.
    """

    url: str
    words: bytes | None = None
    arrives: bool = True
    turns: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    target = connect_arguments(url)
    host, port = target["host"], target["port"] or 5432

    async def reach() -> Streams:
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await reach()
        deaf = False

        async def upwards() -> None:
            nonlocal deaf
            while data := await client.read(65_536):
                if proxy.words is not None and proxy.words in data:
                    deaf, proxy.words = True, None
                    if not proxy.arrives:
                        proxy.hung_up.set()
                        return
                proxy.turns += 1
                to_server.write(data)

        async def downwards() -> None:
            while data := await server.read(65_536):
                if deaf:
                    proxy.hung_up.set()
                    return
                to_client.write(data)

        pumps = [asyncio.create_task(upwards()), asyncio.create_task(downwards())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_client.close()
            to_server.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    here = listening.sockets[0].getsockname()[1]
    through = make_url(url).set(host="127.0.0.1", port=here, query={})
    proxy = Proxy(through.render_as_string(hide_password=False))
    async with listening:
        yield proxy
