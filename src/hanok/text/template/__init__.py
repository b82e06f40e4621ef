"""Other people's chat templates: rendered in a sandbox, in a child process with bounds on time, memory and output."""
