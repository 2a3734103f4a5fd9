"""The edge: the ASGI application, settings, tokens, limits, health, and the command line."""
