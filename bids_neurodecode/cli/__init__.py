"""Arguments to settings, checks before work starts, exit codes."""
