"""`stockshift repair`: what is shown, what is made, and the exit code."""

from tests.service.processes import execute, stockshift

CHANGED = """UPDATE stock_batches SET quantity = quantity + 1, notes = E'x\\x1b[31m' WHERE "itemId" = 'item-3'"""


def test_each_change_is_shown_and_made_when_told(migrated_url: str) -> None:
    env = {"DATABASE_URL": migrated_url}
    execute(migrated_url, CHANGED)
    execute(migrated_url, """DELETE FROM stock_batches WHERE "itemId" = 'item-4'""")
    shown = stockshift("repair", env=env)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "OPENING_BATCH_CHANGED item-3: batch " in shown.stdout
    assert "quantity 4 -> 3" in shown.stdout
    assert "notes x\\x1b[31m -> NULL" in shown.stdout
    assert "is put back: quantity 4, status " in shown.stdout
    assert shown.stdout.endswith("Nothing was changed. `stockshift repair --yes` makes 2 changes.\n")
    made = stockshift("repair", "--yes", env=env)
    assert (made.returncode, made.stderr) == (0, "")
    assert "Made 2 changes, proven by verification " in made.stdout
    assert stockshift("verify", env=env).returncode == 0
    again = stockshift("repair", "--yes", env=env)
    assert (again.returncode, again.stdout) == (0, "Nothing was changed: all is well.\n")


def test_what_is_left_is_said_and_is_no_success(migrated_url: str) -> None:
    env = {"DATABASE_URL": migrated_url}
    execute(migrated_url, "UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE item_id = 'item-3'")
    execute(migrated_url, "UPDATE items SET \"quantityInStock\" = 1 WHERE id = 'item-3'")
    left = stockshift("repair", "--yes", env=env)
    assert left.returncode == 1
    assert "LEFT DRIFT item-3: decide: `stockshift repair --accept-drift item-3`" in left.stdout
    refused = stockshift("repair", "--keep-batches", "item-2", env=env)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "item 'item-2' has no drift" in refused.stderr
    settled = stockshift("repair", "--yes", "--keep-batches", "item-3", env=env)
    assert (settled.returncode, "its drift is settled: KEPT" in settled.stdout) == (0, True), settled.stdout
