"""Seeds of one organism are compared in a table."""

from __future__ import annotations

from personaprobe.studies.replication.seeds import seeds_table


def test_the_table_of_seeds_shows_intervals_and_names_undefined_ones() -> None:
    interval = {"value": 0.2, "low": 0.1, "high": 0.3}
    row = dict.fromkeys(("base", "secure", "insecure", "shift"), interval)
    undefined = dict.fromkeys(("value", "low", "high"))
    table = seeds_table(
        [{"name": "seed-0", **row, "fraction_removed": undefined, "last_losses": [2.0, 1.9]}], "f"
    )
    assert "| seed-0 | 0.200 [0.100, 0.300] |" in table
    assert "undefined | 2.00, 1.90 |" in table
