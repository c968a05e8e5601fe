"""Reading data into examples: tables, images, audio, MIDI, text, splits. Independent of tasks."""
