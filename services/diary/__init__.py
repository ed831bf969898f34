"""WHAT SHE REMEMBERS: entries, ledger, chunks, embedder, index, recall and the job contract.

A library, but for one command, `python -m services.diary.index.reindexing`. The ledger is the truth; the index can
always be rebuilt from it.
"""
