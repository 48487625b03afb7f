"""What a user of the terminal sees: progress, tables, findings, exit codes."""
