"""Model files: their layout, where they come from, and how synthetic ones are made."""
