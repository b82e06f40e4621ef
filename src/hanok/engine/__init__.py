"""Serving a model: page pool, scheduler, paged context, sampling; one engine for rollouts, evaluation and servers."""
