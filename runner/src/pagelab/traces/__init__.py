"""Recorded reads: from the raw files of a recorder to tables, and from there to other programs' formats."""
