"""What a run will take, said before it is started: parameters, FLOPs, memory, time and cost."""
