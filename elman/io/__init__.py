"""Files, run folders, text encodings, JSON fields and formats. Independent of tasks."""
