"""The diary: entries, ledger, index, embedding, recall, reflection, transfer and the job contract.

It is a library with one command, `python -m services.diary.index.reindexing`. The ledger is the
truth; the index can always be rebuilt from it.
"""
