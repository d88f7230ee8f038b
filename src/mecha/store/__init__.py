"""The store: published models, the content-addressed cache, and how files appear whole or not at all."""
