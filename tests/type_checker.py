"""How annotated types are checked in the test run: an int passes for a float, as type checkers have it."""

from beartype import BeartypeConf, beartype

tolerant = beartype(conf=BeartypeConf(is_pep484_tower=True))
