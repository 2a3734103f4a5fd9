"""Tables, engines and URLs, the embedded server, and SQL too long for an expression."""
