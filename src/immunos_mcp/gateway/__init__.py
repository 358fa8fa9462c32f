"""The developer's side of a team: this ledger's usage goes to the team's server, which decides."""
