"""The command line: `python -m bench`."""

import signal
import sys
from pathlib import Path

import click

from bench.compare import Options, compare
from bench.contestants import CONTESTANTS
from bench.growth import SIZES, grow
from bench.growth_report import render_growth
from bench.report import render
from db.errors import StockshiftError

FOLDER = Path(__file__).parent


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--items", type=click.IntRange(min=1_000), help="How many items the shop has.  [default: 100000]")
@click.option("--rounds", type=click.IntRange(min=1), help="How often everything is measured.  [default: 5]")
@click.option("--seconds", type=click.IntRange(min=1), help="How long each measurement takes.  [default: 3]")
@click.option("--connections", type=click.IntRange(min=1), multiple=True, default=(8, 32), show_default=True)
@click.option("--only", type=click.Choice([one.name for one in CONTESTANTS]), multiple=True, help="Beside the service.")
@click.option("--growth", is_flag=True, help="Measure how cost grows with the number of items, instead.")
@click.option("--sizes", type=int, multiple=True, help=f"With --growth: how many items.  [default: {SIZES}]")
@click.option("--quick", is_flag=True, help="In about two minutes: fewer items, one short round.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: RESULTS.md or GROWTH.md here.")
def main(
    items: int | None,
    rounds: int | None,
    seconds: int | None,
    connections: tuple[int, ...],
    only: tuple[str, ...],
    growth: bool,
    sizes: tuple[int, ...],
    quick: bool,
    out: Path | None,
) -> None:
    """How fast the service is beside floors and peers on this machine; or, with --growth, how its cost grows."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped on the way out
    chosen = sizes or ((SIZES[0], 20_000) if quick else SIZES)
    try:
        if growth:
            text = render_growth(grow(chosen, say))
        else:
            options = Options(
                items or (20_000 if quick else 100_000),
                rounds or (1 if quick else 5),
                seconds or (1 if quick else 3),
                connections,
                only,
            )
            text = render(compare(options, say))
    except StockshiftError as error:
        click.echo(f"bench: {error.message}", err=True)
        sys.exit(2)
    out = out or FOLDER / ("GROWTH.md" if growth else "RESULTS.md")
    out.write_text(text, encoding="utf-8")
    say(f"written to {out}")


def say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main(prog_name="python -m bench")
