"""Claude Desktop: how it is set up."""
