"""Search and sampling: beam search, CTC, an attention decoder, draws of the next token."""
