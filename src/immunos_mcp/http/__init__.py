"""The server over HTTP, for clients on this machine and elsewhere."""
