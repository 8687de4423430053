"""What several policies are made of: regressions, neighbours, groups of prompts."""
