"""The report of a compilation: its values, and how they are shown."""
