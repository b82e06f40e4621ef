"""Training: one loop for every method, with objectives, optimisers and schedules as parts."""
