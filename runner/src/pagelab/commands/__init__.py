"""The command line: typer commands, and nothing else."""
