"""What an image starts with and is asked with: the checks before a proxy starts, and its health."""
