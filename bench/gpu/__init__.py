"""One command for the first hour with a GPU: scoring, embedding and sampling at the real models' sizes."""
