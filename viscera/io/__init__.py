"""The only packages that open files."""
