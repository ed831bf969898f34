"""Rows of CSV, JSON Lines and JSON arrays, streamed with their line numbers; a broken row costs no other."""
