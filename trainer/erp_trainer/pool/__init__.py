"""The pool file: what a whole run is made of, how one is drafted, and what would keep its proxy from routing."""
