"""The evaluation as something people look at: one HTML file, a picture, a table. Source: the ``evaluate`` payload."""

FORMATS = ("html", "json", "csv", "png")
