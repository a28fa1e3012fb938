"""Other processes: starting them, sharing work out, and cleaning up after those that end."""
