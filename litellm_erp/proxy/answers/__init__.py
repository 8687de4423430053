"""What becomes of a pick: who answered, what it cost, what is told of it and what is written down."""
