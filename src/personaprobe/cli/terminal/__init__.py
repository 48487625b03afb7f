"""The output of the command line: progress, tables, findings, exit codes."""
