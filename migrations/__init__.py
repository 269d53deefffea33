"""Numbered SQL, `NNNN_verb_object.sql`: forward only, checksummed, applied by `adapters.postgres.migrate`. An applied file is never edited."""
