"""Servers that others would build for the same schema; each is one process."""
