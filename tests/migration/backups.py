"""Backups of a test: made, restored, made wrong; and programs that only seem to be PostgreSQL's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from db.url import DatabaseUrl
from migration.backup import back_up
from migration.manifest import NAME, Manifest, read_manifest
from migration.restore import Restored, restore
from tests.migration.support import engine_on


async def backed_up(url: str, target: Path, **options: Any) -> Manifest:
    async with engine_on(url) as engine:
        return await back_up(engine, DatabaseUrl.parse(url), target, made_by="test", **options)


async def restored(url: str, directory: Path, **options: Any) -> Restored:
    async with engine_on(url) as engine:
        return await restore(engine, DatabaseUrl.parse(url), directory, **options)


def rewritten(directory: Path, change: Callable[[Manifest], dict[str, Any]]) -> None:
    """Another manifest, whole in itself, as of a backup of something else."""
    manifest = read_manifest(directory)
    (directory / NAME).write_bytes(replace(manifest, **change(manifest)).to_json())


def fake_program(folder: Path, name: str, version: str, script: str) -> None:
    """A shell script that says a version, and else does what it is told."""
    program = folder / name
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{name} (PostgreSQL) {version}"; exit; fi\n{script}'
    )
    program.chmod(0o755)
