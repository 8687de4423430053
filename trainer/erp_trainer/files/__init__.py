"""Files of every kind that stages leave behind: replaced whole, appended safely, read as tables."""
