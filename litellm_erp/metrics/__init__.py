"""What is counted and timed while requests are routed, for Prometheus. Never any text of a prompt."""
