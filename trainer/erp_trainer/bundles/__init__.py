"""Bundles made, grown and asked: the rooms of learning, policies and files meet here."""
