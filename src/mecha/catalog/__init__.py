"""The catalog: the models that can be pulled, layered package < user < project."""
