"""PURE. One module per part of the page: the payload in, a section and its charts out."""
