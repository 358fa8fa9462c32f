"""The programs that people use the router from: their configuration files, and what may be wrong there."""
