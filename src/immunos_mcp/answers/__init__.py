"""What the use cases return: exactly the JSON of the tools and of ``--json``."""
