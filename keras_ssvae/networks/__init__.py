"""The networks of the papers, one file per data set, one function per table."""
