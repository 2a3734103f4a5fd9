"""A process of the service on its own: `python -m tests.mutations.driver URL ITEM COUNT`.

Says that it is ready, waits for a line, makes COUNT batches of one unit at once, and prints the totals they answered.
"""

import asyncio
import sys

from tests.mutations.support import serving


async def drive(url: str, item: str, count: int) -> None:
    async with serving(url) as client:
        await client.data("{ __typename }")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        payloads = await asyncio.gather(*[client.made(itemId=item, quantity=1) for _ in range(count)])
        for payload in payloads:
            sys.stdout.write(f"{payload['item']['totalQuantity']}\n")


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1], sys.argv[2], int(sys.argv[3])))
