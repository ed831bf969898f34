"""The ledger: every entry, its versions and its state in SQL. The index can be rebuilt from it."""
