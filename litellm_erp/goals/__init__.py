"""Whose λ, and why: goals as people state them, who may state them, and the λ that meets them."""
