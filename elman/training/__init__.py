"""The one training room: every task is trained here, by Lightning."""
