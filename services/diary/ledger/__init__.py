"""The ledger: every entry, its versions and its state in SQL. It is the truth; the index can be rebuilt from it."""
