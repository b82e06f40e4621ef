"""Floor 7: whole runs, composed of stages from every room."""
