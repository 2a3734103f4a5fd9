"""The verbs of the command line, one a module: each has a `command`, and is imported when it is used."""
