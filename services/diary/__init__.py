"""WHAT SHE REMEMBERS: entries, ledger, chunks, embedder, index, recall and the job contract.

A library, never run. The ledger is the truth; the index can always be rebuilt from it.
"""
