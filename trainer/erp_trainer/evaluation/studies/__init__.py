"""What only a paper's study asks: whole tasks, unseen tasks, newcomers, RouteLLM's protocol."""
