"""What was done, as values, and as the texts and pages that files hold."""
