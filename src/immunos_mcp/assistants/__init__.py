"""Programs that spend tokens: where their logs are, and how they are set up."""
