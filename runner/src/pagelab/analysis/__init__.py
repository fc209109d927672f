"""Numbers derived from the files of a run; nothing here measures."""
