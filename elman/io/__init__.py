"""Files, run folders, text encodings, JSON fields, formats. Knows no task."""
