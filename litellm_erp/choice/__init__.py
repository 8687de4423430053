"""PURE. What is chosen, from numbers: the decision, a request's expected cost, the text that stands for a prompt."""
