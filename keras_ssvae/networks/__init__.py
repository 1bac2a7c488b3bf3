"""The networks of the papers: one file per system, one function per table."""
