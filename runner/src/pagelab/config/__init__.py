"""What an experiment is asked to do."""
