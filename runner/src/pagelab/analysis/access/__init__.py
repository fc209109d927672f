"""In which order, sizes and how often again a trial read, from its trace."""
