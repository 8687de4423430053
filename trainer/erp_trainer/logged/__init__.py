"""Decision logs: read, and asked what other choices would have earned and cost."""
