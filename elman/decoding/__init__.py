"""Decoding: beam search, CTC decoding, an attention decoder, and sampling of tokens."""
