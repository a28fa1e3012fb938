"""What is known of a model before it runs: shapes, constants, the role of each node."""
