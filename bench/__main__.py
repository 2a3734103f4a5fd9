"""The command line: `python -m bench`."""

import signal
import sys
from pathlib import Path

import click

from bench.compare import Options, compare
from bench.contestants import CONTESTANTS
from bench.copying import copying
from bench.copying_report import render_copying
from bench.growth import SIZES, grow
from bench.growth_report import render_growth
from bench.profiling import profile
from bench.report import render
from bench.soak import soak
from bench.soak_report import render_soak
from bench.verifying import verifying
from bench.verifying_report import render_verifying
from db.errors import StockshiftError

FOLDER = Path(__file__).parent
SOAK_REQUESTS = 1_000_000
COPY_ITEMS = 1_000_000


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--items",
    type=click.IntRange(min=2_000),
    help=f"How many items the shop has.  [default: 100000; copy, verify: {COPY_ITEMS}]",
)
@click.option(
    "--rounds", type=click.IntRange(min=1), help="How often everything is measured.  [default: 5; copy, verify: 3]"
)
@click.option(
    "--seconds", type=click.IntRange(min=1), help="How long each measurement takes.  [default: 3; soak: 15; copy: 2]"
)
@click.option("--connections", type=click.IntRange(min=1), multiple=True, default=(8, 32), show_default=True)
@click.option("--only", type=click.Choice([one.name for one in CONTESTANTS]), multiple=True, help="Beside the service.")
@click.option("--growth", is_flag=True, help="Measure how cost grows with the number of items, instead.")
@click.option("--sizes", type=int, multiple=True, help=f"With --growth: how many items.  [default: {SIZES}]")
@click.option(
    "--soak",
    "requests",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=SOAK_REQUESTS,
    help=f"Measure memory over so many requests, instead.  [{SOAK_REQUESTS} if not said]",
)
@click.option("--profile", "profiled", is_flag=True, help="Measure where the service's time goes, instead.")
@click.option("--copy", "copied", is_flag=True, help="Measure an online copy and the shop beside it, instead.")
@click.option("--verify", "verified", is_flag=True, help="Measure a verification, instead.")
@click.option("--quick", is_flag=True, help="Does it run: fewer items, one short round.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: RESULTS.md and the like, here.")
def main(
    items: int | None,
    rounds: int | None,
    seconds: int | None,
    connections: tuple[int, ...],
    only: tuple[str, ...],
    growth: bool,
    sizes: tuple[int, ...],
    requests: int | None,
    profiled: bool,
    copied: bool,
    verified: bool,
    quick: bool,
    out: Path | None,
) -> None:
    """How fast the service is beside floors and peers on this machine; or what else an option asks for."""
    if growth + profiled + copied + verified + (requests is not None) > 1:
        raise click.UsageError(
            "--growth, --soak, --profile, --copy and --verify are measurements; ask for one at a time"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped on the way out
    items = items or (20_000 if quick else COPY_ITEMS if copied or verified else 100_000)
    try:
        if growth:
            name, text = "GROWTH", render_growth(grow(sizes or ((SIZES[0], 20_000) if quick else SIZES), say))
        elif requests is not None:
            name, text = "SOAK", render_soak(soak(requests, items, seconds or (2 if quick else 15), say))
        elif profiled:
            name, text = "PROFILE", profile(items, seconds or (2 if quick else 5), say)
            click.echo(text)
        elif copied:
            found = copying(items, rounds or (1 if quick else 3), seconds or (1 if quick else 2), say)
            name, text = "COPY", render_copying(found)
        elif verified:
            name, text = "VERIFY", render_verifying(verifying(items, rounds or (1 if quick else 3), say))
        else:
            options = Options(items, rounds or (1 if quick else 5), seconds or (1 if quick else 3), connections, only)
            name, text = "RESULTS", render(compare(options, say))
    except StockshiftError as error:
        click.echo(f"bench: {error.message}", err=True)
        sys.exit(2)
    out = out or FOLDER / f"{name}.md"
    out.write_text(text, encoding="utf-8")
    say(f"written to {out}")


def say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main(prog_name="python -m bench")
