"""Detection: preprocessing, sessions, decoding and drawing."""
