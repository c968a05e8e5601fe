"""Language models: the next character, word or byte pair."""
