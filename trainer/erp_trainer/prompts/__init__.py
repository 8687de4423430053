"""Prompt sets: where prompts come from, and which of them say the same."""
