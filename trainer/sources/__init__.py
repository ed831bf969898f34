"""Where narratives come from: one file a source, and what reads their rows.

Each source has NAME, LICENCE and REMEDY, says whether its data is there (`found`) and which data it was
(`provenance`), and yields its samples (`read`) one at a time, so that a file of any size fits into memory.
"""
