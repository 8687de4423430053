"""Whether models have become worse than their probes expect, from what is fed back."""
