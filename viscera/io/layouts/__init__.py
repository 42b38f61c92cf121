"""The folder layouts that data sets come in, from a folder to the files of its cases; a new one: `layout_table.py`."""
