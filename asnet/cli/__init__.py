"""The command: one file a subcommand, no mathematics."""
