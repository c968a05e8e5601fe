"""Reading data into examples: tables, images, MIDI, tokenizers, splits. Knows no task."""
